"""Embeddings of users to messages: what cannot be shown is changed and noted; what one record cannot hold is split.

Shape suffixes: N points, D dimensions, C channels, H height, W width.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, takewhile, zip_longest
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.limits import (
    EMBEDDING_COLUMNS_MAX,
    EMBEDDING_ROWS_MAX,
    EMBEDDING_ROWS_TOTAL_MAX,
    IMAGE_SIDE_MAX,
    LABEL_MAX_CHARACTERS,
    RECORD_SIZE_MAX_BYTES,
)
from tensorboard_sidecar.protocol.messages import Embedding
from tensorboard_sidecar.telemetry.values.arrays import Note, as_tensor, thumbnails_to_uint8, to_float32
from tensorboard_sidecar.telemetry.values.fit import Cut
from tensorboard_sidecar.telemetry.values.python_values import cells
from tensorboard_sidecar.telemetry.values.tags import CUT_MARK

# A part fits a segment of the outbox. The thread that copies a part holds the interpreter for about a millisecond.
PART_SIZE_MAX_BYTES: Final = 4 * 2**20 - 2**16
# Names of fields, shapes, the tag, and the header of the record.
_HEAD_SIZE_MAX_BYTES: Final = 2**13
# msgpack puts up to 5 bytes before a text, and before the cells of a row.
_TEXT_HEAD_BYTES: Final = 5
_UTF8_MAX_BYTES: Final = 4
_EMPTY_CELL: Final = "-"


class Points(NamedTuple):
    """Points as they are sent: ``vectors`` float32 ``[N, D]``, ``thumbnails`` uint8 ``[N, H, W, 3]`` or None.

    ``rows`` is empty or has N rows with a cell for each of ``columns``.
    """

    vectors: Tensor
    columns: list[str]
    rows: list[list[str]]
    thumbnails: Tensor | None

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors of the points."""
        return [self.vectors] if self.thumbnails is None else [self.vectors, self.thumbnails]


class Part(NamedTuple):
    """The points of one message. ``build(tag, arrays)`` returns the message, with the tensors as arrays.

    ``build`` holds no tensor: the memory of a device tensor is freed by the thread that made it.
    """

    tensors: list[Tensor]
    build: Callable[[str, Sequence[npt.NDArray[Any]]], Embedding]


def gather_points(vectors: Any, metadata: Any, images: Any, note: Note) -> Points:
    """Return the points of a call with what can be kept of ``metadata`` and ``images``; ``note`` gets each change.

    Raises TypeError or ValueError for vectors without points or that are no dense numbers.
    """
    tensor, row_count = _vectors(vectors, note)
    columns, rows = _metadata(metadata, row_count, len(tensor), note)
    return Points(tensor, columns, rows, _thumbnails(images, row_count, len(tensor), note))


def by_column(rows: Iterable[Any], header: Iterable[Any]) -> tuple[dict[str, list[Any]], Cut | None]:
    """Return rows of metadata as columns by name, and what was changed: rows without a cell for each name.

    >>> by_column([("cat", 4), ("hen", 2)], ["name", "legs"])
    ({'name': ['cat', 'hen'], 'legs': [4, 2]}, None)
    """
    names = list(map(str, header))
    cells = [list(row) if isinstance(row, list | tuple | np.ndarray | Tensor) else [row] for row in rows]
    width = max(map(len, cells), default=0)
    wrong = sum(len(row) != len(names) for row in cells)
    names += [f"column {number}" for number in range(len(names) + 1, width + 1)]
    change = Cut("metadata", f"{wrong:,} rows do not have one cell for each name; missing cells are {_EMPTY_CELL!r}")
    distinct = [name if names.index(name) == place else f"{name} ({place + 1})" for place, name in enumerate(names)]
    columns = [column[1:] for column in zip_longest(distinct, *cells, fillvalue=_EMPTY_CELL)]
    return dict(zip(distinct, map(list, columns), strict=True)), change if wrong else None


def split_points(
    points: Points,
    *,
    rows_max: int = EMBEDDING_ROWS_MAX,
    record_size_max_bytes: int = RECORD_SIZE_MAX_BYTES,
    part_size_max_bytes: int = PART_SIZE_MAX_BYTES,
) -> Iterator[Part]:
    """Yield all points as one message if one record holds them, otherwise in parts of one row or more.

    A record has at most ``record_size_max_bytes``, a part about ``part_size_max_bytes``.
    """
    row_count = len(points.vectors)
    head_bytes = _HEAD_SIZE_MAX_BYTES + sum(map(_text_bytes, points.columns))
    row_bytes = sum(tensor[0].numel() * tensor.element_size() for tensor in points.tensors)
    if row_count <= rows_max:
        characters = sum(map(len, chain.from_iterable(points.rows)))
        texts_bytes = _UTF8_MAX_BYTES * characters + _TEXT_HEAD_BYTES * (len(points.columns) + 1) * len(points.rows)
        if head_bytes + row_bytes * row_count + texts_bytes <= record_size_max_bytes:
            yield _part(points, 0, row_count, 0)
            return
    room_bytes, first_row = part_size_max_bytes - head_bytes, 0
    while first_row < row_count:
        end_row = min(row_count, first_row + min(rows_max, max(1, room_bytes // row_bytes)))
        if points.rows:
            sizes = (_TEXT_HEAD_BYTES + sum(map(_text_bytes, row)) for row in points.rows[first_row:end_row])
            ends = accumulate(row_bytes + size for size in sizes)
            end_row = first_row + max(1, sum(1 for _ in takewhile(room_bytes.__ge__, ends)))
        yield _part(points, first_row, end_row, row_count)
        first_row = end_row


def plain_label(text: str) -> str:
    """Return a text for a cell: too long a text is cut and ends with an ellipsis, lone surrogates become ``?``."""
    cut = text if len(text) <= LABEL_MAX_CHARACTERS else text[: LABEL_MAX_CHARACTERS - 1] + CUT_MARK
    return cut.encode("utf-8", "replace").decode()


def _vectors(vectors: Any, note: Note) -> tuple[Tensor, int]:
    """Return vectors as float32 ``[N, D]`` within the limits, and the number of points that were given."""
    tensor = as_tensor(vectors)
    shape = tuple(tensor.shape)
    if not shape or not tensor.numel():
        raise ValueError(f"vectors of shape {shape}; expected [N, D] with a point or more")
    changes = []
    if tensor.ndim != 2:
        tensor = tensor.reshape(shape[0], -1)
        changes.append(f"are kept as {list(tensor.shape)}")
    for dimension, limit, name in (0, EMBEDDING_ROWS_TOTAL_MAX, "points"), (1, EMBEDDING_ROWS_MAX, "dimensions"):
        if tensor.shape[dimension] > limit:
            tensor = tensor.narrow(dimension, 0, limit)
            changes.append(f"are too large: the first {limit:,} {name} are kept")
    if changes:
        note(Cut("points", f"vectors of shape {list(shape)} {', and '.join(changes)}"))
    return to_float32(tensor), shape[0]


def _metadata(metadata: Any, row_count: int, rows_kept: int, note: Note) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of metadata, with one row for each of the points that are kept."""
    if metadata is None:
        return [], []
    changes: list[str] = []
    titles: list[str] = []
    columns: list[list[str]] = []
    named = metadata if isinstance(metadata, Mapping) else {"label": metadata}
    for name, column in named.items():
        if len(columns) == EMBEDDING_COLUMNS_MAX:
            changes.append(f"of {len(named)} columns the first {EMBEDDING_COLUMNS_MAX} are kept")
            break
        try:
            title, texts = str(name), _texts(column)
        except Exception as error:  # noqa: BLE001 - the other columns are kept, whatever the error
            known = name if isinstance(name, str) else type(name).__name__
            changes.append(f"column {known!r:.80} is left out: {error!s:.200}")
            continue
        if len(texts) != row_count:
            change = "cut" if texts[row_count:] else f"filled up with {_EMPTY_CELL!r}"
            changes.append(f"{len(texts):,} cells for {row_count:,} points are {change}")
        texts = texts[:rows_kept] + [_EMPTY_CELL] * (rows_kept - len(texts))
        titles += _cut_cells([title], changes)
        columns.append(_cut_cells(texts, changes))
    if changes:
        note(Cut("metadata", "; ".join(dict.fromkeys(changes))))
    return titles, list(map(list, zip(*columns, strict=True)))


def _texts(column: Any) -> list[str]:
    if isinstance(column, str | bytes | Mapping):
        raise TypeError(f"a {type(column).__name__}; expected a cell for each point")
    return cells(column)


def _cut_cells(texts: list[str], changes: list[str]) -> list[str]:
    try:
        "".join(texts).encode()
        too_long = max(map(len, texts), default=0) > LABEL_MAX_CHARACTERS
    except UnicodeEncodeError:
        too_long = True
    if not too_long:
        return texts
    cut = list(map(plain_label, texts))
    changed = sum(text != given for text, given in zip(cut, texts, strict=True))
    changes.append(f"{changed:,} texts are longer than {LABEL_MAX_CHARACTERS:,} characters, or no Unicode, and are cut")
    return cut


def _thumbnails(images: Any, row_count: int, rows_kept: int, note: Note) -> Tensor | None:
    """Return thumbnails ``[N, H, W, 3]`` of the points that are kept, small enough for a sheet of all of them."""
    if images is None:
        return None
    try:
        thumbnails = thumbnails_to_uint8(images, note)
        if len(thumbnails) != row_count or not thumbnails.numel():
            raise ValueError(f"thumbnails of shape {list(thumbnails.shape)} for {row_count:,} points")  # noqa: TRY301 - as errors of the conversion
    except Exception as error:  # noqa: BLE001 - the points are kept, whatever the error
        note(Cut("thumbnails", f"images are left out: {error!s:.300}"))
        return None
    thumbnails = thumbnails[:rows_kept]
    side_max = IMAGE_SIDE_MAX // math.ceil(math.sqrt(rows_kept))
    largest = max(thumbnails.shape[1:3])
    for dimension in (1, 2) if largest > side_max else ():
        thumbnails = _pick(thumbnails, dimension, max(1, thumbnails.shape[dimension] * side_max // largest))
    return thumbnails


def _pick(pictures: Tensor, dimension: int, number: int) -> Tensor:
    """Return every so many lines of pictures: averages of more than 16,384 pictures would take a minute."""
    lines = torch.arange(number, device=pictures.device) * pictures.shape[dimension] // number
    return pictures.index_select(dimension, lines)


def _part(points: Points, first_row: int, end_row: int, row_count: int) -> Part:
    columns, rows = points.columns, points.rows[first_row:end_row]

    def build(tag: str, arrays: Sequence[npt.NDArray[Any]]) -> Embedding:
        thumbnails = pack_array(arrays[1]) if arrays[1:] else None
        return Embedding(tag, pack_array(arrays[0]), columns, rows, thumbnails, first_row, row_count)

    return Part([tensor[first_row:end_row] for tensor in points.tensors], build)


def _text_bytes(text: str) -> int:
    """Return the bytes of a text in msgpack, or more."""
    return _TEXT_HEAD_BYTES + len(text) * (1 if text.isascii() else _UTF8_MAX_BYTES)
