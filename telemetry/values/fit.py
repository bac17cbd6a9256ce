"""Values of users to values that fit the limits of records: cut, reduced or split, before a message is encoded.

The limits of ``protocol.limits`` protect the logger, which goes on checking them. The functions here make honest values
fit. Three rules hold:

- What one record cannot hold goes into several records of the same step (:func:`record_slices`); nothing is lost.
- What is too long or too large for every record is cut or reduced, and the cut is visible in TensorBoard.
- One bad part (a clip, a caption, a chart, a node) is left out; the parts beside the bad part are kept.

Each loss is told: ``note`` gets a :class:`Cut`, one for all equal losses of a list. Splitting loses nothing and is not
told. No function reads a value on a device; pictures and matrices on a device are reduced on that device.

Shape suffixes: N pictures, H height, W width, C channels, F frames.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import groupby, islice
from typing import Any, Final, Literal, NamedTuple, TypeVar
from zlib import crc32

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.kinds import node_parts
from tensorboard_sidecar.protocol.messages import Chart, Charts, Graph, GraphNode, Layout
from tensorboard_sidecar.telemetry.values.arrays import (
    ArrayLike,
    Note,
    Pictures,
    as_tensor,
    clip_to_int16,
    pictures_to_uint8,
    to_float32,
)
from tensorboard_sidecar.telemetry.values.parameters import Unread
from tensorboard_sidecar.telemetry.values.python_values import on_host, plain_range
from tensorboard_sidecar.telemetry.values.tags import CUT_MARK, shown_tag

T = TypeVar("T")

# A record holds, beside the values, its header, the names of the fields and a tag.
ITEMS_SIZE_MAX_BYTES: Final = limits.RECORD_SIZE_MAX_BYTES - 2**14
_UTF8_MAX_BYTES: Final = 4
# Upper bound for the encoded size of a caption, or of another label.
LABEL_SIZE_MAX_BYTES: Final = _UTF8_MAX_BYTES * limits.LABEL_MAX_CHARACTERS + 8
# Upper bound for the encoded size of an array without its data: names, dtype, shape.
_ARRAY_HEAD_BYTES: Final = 128
_SIDE_MAX: Final = 2**63 - 1
_TIME_MAX_NS: Final = 2**63 - 1
_CHART_KINDS: Final[dict[str, Literal["multiline", "margin"]]] = {"multiline": "multiline", "margin": "margin"}


class Cut(ValueError):
    """Something that is kept, but cut, reduced or in part; ``part`` is the part of the call: "captions"."""

    def __init__(self, part: str, what: str) -> None:
        super().__init__(f"{part}: {what}")
        self.part = part


def as_text(value: Any) -> str:
    r"""Return a value as text: bytes decoded from UTF-8, a tensor of no dimension as its number, others by ``str``.

    Bytes that are no UTF-8 and halves of characters (lone surrogates) become U+FFFD. Raises TypeError for a tensor on a
    device, NoText for an object whose ``__str__`` reads one, and the errors of ``__str__``.

    >>> as_text(b"caf\xc3\xa9"), as_text(torch.tensor(3)), as_text(["a", 1])
    ('café', '3', "['a', 1]")
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "replace")
    if isinstance(value, Tensor):
        host = on_host("the text", value)
        value = host.item() if host.ndim == 0 else host
    if not isinstance(value, str):
        with Unread():
            value = str(value)
    if value.isascii():
        return str.__str__(value)
    # Two surrogates that are a pair become their character, single surrogates become U+FFFD.
    return str(value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def text(tag: str, value: Any, note: Note, characters_max: int = limits.TEXT_MAX_CHARACTERS) -> str:
    """Return a text of at most ``characters_max``; the last line of a text that was cut says so."""
    whole = as_text(value)
    if isinstance(value, str) and whole != value:
        note(Cut("text", f"{tag!r:.80}: half characters (lone surrogates) are replaced by \ufffd"))
    if len(whole) <= characters_max:
        return whole
    room = characters_max - len(_cut_line(len(whole), len(whole)))
    note(
        Cut(
            "text",
            f"{tag!r:.80}: {room:,} of {len(whole):,} characters are kept; a text has {characters_max:,} at most",
        )
    )
    return whole[:room] + _cut_line(room, len(whole))


def _cut_line(kept: int, characters: int) -> str:
    return f"\n\n... (cut: {kept:,} of {characters:,} characters are shown)"


def label(name: str, value: Any, note: Note, characters_max: int = limits.LABEL_MAX_CHARACTERS) -> str:
    """Return a title, an axis label or a caption of at most ``characters_max``; a cut label ends with an ellipsis.

    A value without a text (a tensor on a device) becomes an empty label.
    """
    [made] = _labels(name, [value], note, characters_max)
    return made


def captions(values: Any, number: int, things: str, note: Note) -> list[str]:
    """Return no caption, or one for each of ``number`` things (pictures, clips), padded with "" or cut to the number.

    A single text is the caption of the first thing.
    """
    if values is None:
        return []
    if isinstance(values, str | bytes):
        values = [values]
    try:
        if isinstance(values, Tensor):
            values = on_host("captions", values).reshape(-1).tolist()
        given = list(islice(values, number + 1))
    except Exception as error:  # noqa: BLE001 - the pictures are kept, whatever the captions are
        note(Cut("captions", f"no caption is kept: {error}"))
        return []
    if not given:
        return []
    if len(given) != number:
        came = f"more than {number:,}" if len(given) > number else f"{len(given):,}"
        change = "the others are left out" if len(given) > number else "the rest has none"
        note(Cut("number of captions", f"{came} came for {number:,} {things}; {change}"))
    made = _labels("captions", given[:number], note, limits.LABEL_MAX_CHARACTERS)
    return made + [""] * (number - len(made))


def _labels(name: str, values: Sequence[Any], note: Note, characters_max: int) -> list[str]:
    """Return a label for each value; note once, with numbers, the labels that were cut, changed or left out."""
    made, lost = [], _Lost()
    for value in values:
        try:
            whole = as_text(value)
        except Exception as error:  # noqa: BLE001 - the text of a user's class may fail with any error
            lost.add("have no text and are left empty", error)
            whole = ""
        if isinstance(value, str) and value != whole:
            lost.add("have half characters (lone surrogates), which are replaced by \ufffd")
        if len(whole) > characters_max:
            lost.add(f"are cut to {characters_max:,} characters", f"of {len(whole):,}")
            whole = whole[: characters_max - 1] + CUT_MARK
        made.append(whole)
    lost.tell(name, len(values), note)
    return made


class _Lost:
    """Counts the losses of one call by kind; remembers the first of each."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, example: object = "") -> None:
        """Count a loss."""
        number, first = self._kinds.get(
            kind, (0, f"{example:.120}" if isinstance(example, str) else f"{example!s:.120}")
        )
        self._kinds[kind] = (number + 1, first)

    def tell(self, name: str, total: int, note: Note, subject: str = "") -> None:
        """Note each kind of loss once."""
        for kind, (number, first) in self._kinds.items():
            note(Cut(name, f"{subject}{number:,} of {total:,} {kind}" + (f" (the first: {first})" if first else "")))


class RecordSlice(NamedTuple):
    """The place of one record's items among all items of a call, and the record's tag."""

    tag: str
    items: slice


def record_slices(
    tag: str, sizes_bytes: Sequence[int], items_max: int, size_max_bytes: int = ITEMS_SIZE_MAX_BYTES
) -> list[RecordSlice]:
    """Split items, in order, into records of at most ``items_max`` items and ``size_max_bytes`` (or a single item).

    The first record has ``tag``, the others ``tag (2 of 3)``, ``tag (3 of 3)``. TensorBoard then shows one card for
    each record, and the cards stay the same over the steps while the number of records does.

    >>> [(part.tag, part.items) for part in record_slices("i", [40, 40, 40], items_max=256, size_max_bytes=100)]
    [('i', slice(0, 2, None)), ('i (2 of 2)', slice(2, 3, None))]
    """
    starts, count, filled = [], items_max, 0
    for place, size in enumerate(sizes_bytes):
        if count == items_max or filled + size > size_max_bytes:
            starts.append(place)
            count = filled = 0
        count, filled = count + 1, filled + size
    ends = [*starts[1:], len(sizes_bytes)][: len(starts)]
    return [
        RecordSlice(_part_tag(tag, number, len(starts)), slice(start, end))
        for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1)
    ]


def _part_tag(tag: str, number: int, total: int) -> str:
    if number == 1:
        return tag
    mark = f" ({number:,} of {total:,})"
    room = limits.TAG_MAX_CHARACTERS - len(mark)
    if len(tag) > room:  # a checksum, so that different tags stay different
        end = f"{CUT_MARK}{crc32(tag.encode()):08x}"
        tag = tag[: room - len(end)] + end
    return tag + mark


def first_values(name: str, values: dict[str, T], note: Note, tags_max: int = limits.TAGS_MAX) -> dict[str, T]:
    """Return the first ``tags_max`` values, where one record has to hold all values."""
    if len(values) <= tags_max:
        return values
    note(Cut(name, f"the first {tags_max:,} of {len(values):,} {name} are kept"))
    return dict(islice(values.items(), tags_max))


class PictureRecord(NamedTuple):
    """The tag, the pictures (uint8 ``[N, H, W, C]``), and no caption or one for each picture, of one record."""

    tag: str
    pictures: Tensor
    captions: list[str]


def picture_records(
    tag: str, images: Pictures, layout_given: str, captions_given: Any, note: Note
) -> list[PictureRecord]:
    """Return the records of pictures, in order. Of a list of unequal pictures, equal neighbours share records.

    Raises TypeError or ValueError when no picture can be kept.
    """
    batches, kept, number = _batches(tag, images, layout_given, note)
    labels = captions(captions_given, number, "pictures", note)
    labels = [labels[place] for place in kept] if labels else []
    split: list[tuple[Tensor, list[str]]] = []
    for batch_NHWC in batches:
        fitting = pictures(tag, batch_NHWC, note)
        own, labels = labels[: len(fitting)], labels[len(fitting) :]
        parts = picture_slices(tag, fitting, captions_given=bool(own))
        split += [(fitting[part.items], own[part.items]) for part in parts]
    return [PictureRecord(_part_tag(tag, number, len(split)), *record) for number, record in enumerate(split, 1)]


def _batches(tag: str, images: Pictures, layout_given: str, note: Note) -> tuple[list[Tensor], Sequence[int], int]:
    """Return batches of equal pictures, the places of the pictures kept among those given, and the number given."""
    try:
        whole = pictures_to_uint8(images, layout_given, note)
        return [whole], range(len(whole)), len(whole)
    except (TypeError, ValueError):
        if not isinstance(images, list | tuple):
            raise
        singles, lost = _singles(images, layout_given, note)
        if not singles:
            raise
    lost.tell("pictures", len(images), note, f"{tag!r:.80}: ")
    neighbours = groupby(singles.values(), lambda picture: (picture.shape, picture.device))
    return [torch.cat(list(equal)) for _, equal in neighbours], list(singles), len(images)


def _singles(images: Sequence[Any], layout_given: str, note: Note) -> tuple[dict[int, Tensor], "_Lost"]:
    """Return the good pictures of a list by their places, each ``[1, H, W, C]``, and the bad ones."""
    singles: dict[int, Tensor] = {}
    lost = _Lost()
    for place, image in enumerate(images):
        try:
            [picture_HWC] = pictures_to_uint8(image, layout_given.upper().replace("N", ""), note)
            singles[place] = picture_HWC[None]
        except Exception as error:  # noqa: BLE001 - the other pictures are kept, whatever the error
            lost.add("are not kept", f"picture {place + 1}: {error}")
    return singles, lost


def pictures(
    tag: str,
    pictures_NHWC: Tensor,
    note: Note,
    *,
    side_max: int = limits.IMAGE_SIDE_MAX,
    size_max_bytes: int = ITEMS_SIZE_MAX_BYTES - LABEL_SIZE_MAX_BYTES - _ARRAY_HEAD_BYTES,
) -> Tensor:
    """Return pictures, uint8 ``[N, H, W, C]``, each at most ``side_max`` a side and ``size_max_bytes`` large.

    Larger pictures are reduced by the smallest whole factor that makes them fit: each pixel is the mean of a block.
    """
    number, height, width, channels = pictures_NHWC.shape
    factor = -(-max(height, width) // side_max)
    while _rounded_up(height, factor) * _rounded_up(width, factor) * channels > size_max_bytes:
        factor += 1
    if factor == 1:
        return pictures_NHWC
    shape = (number, _rounded_up(height, factor), _rounded_up(width, factor), channels)
    reduced = torch.empty(shape, dtype=torch.uint8, device=pictures_NHWC.device)
    for picture_HWC, made_HWC in zip(pictures_NHWC, reduced, strict=True):
        for plane_HW, made_HW in zip(picture_HWC.unbind(-1), made_HWC.unbind(-1), strict=True):
            made_HW.copy_(block_means(plane_HW.float(), factor, factor).round_())
    note(
        Cut(
            "size of pictures",
            f"{tag!r:.80}: pictures of {width:,} x {height:,} pixels and {channels} channels are reduced to"
            f" {shape[2]:,} x {shape[1]:,}; a picture has at most {side_max:,} pixels a side and {size_max_bytes:,}"
            " bytes",
        )
    )
    return reduced


def _rounded_up(side: int, factor: int) -> int:
    return -(-side // factor)


def picture_slices(tag: str, pictures_NHWC: Tensor, captions_given: bool) -> list[RecordSlice]:
    """Split pictures into records; the size of captions counts as their largest, so that the records stay the same."""
    size_bytes = pictures_NHWC[0].numel() + (LABEL_SIZE_MAX_BYTES if captions_given else 0)
    sizes = [size_bytes] * len(pictures_NHWC)
    return record_slices(tag, sizes, limits.IMAGES_MAX, ITEMS_SIZE_MAX_BYTES - _ARRAY_HEAD_BYTES)


def matrix(tag: str, values: ArrayLike, note: Note, side_max: int = limits.MATRIX_SIDE_MAX) -> tuple[Tensor, str]:
    """Return a matrix of at most ``side_max`` a side, and "" or what its cells are: "means of 2 x 2 blocks".

    A vector becomes one row, a number one cell. A block with a NaN or an infinity shows as such. Raises ValueError for
    an empty matrix and for more than two dimensions.
    """
    given = as_tensor(values)
    if given.ndim > 2 or not given.numel():
        raise ValueError(
            f"{tag!r:.80}: values of shape {tuple(given.shape)}; expected [rows, columns] with one cell or more:"
            " give one matrix of the tensor, or draw pictures with telemetry.images"
        )
    given = given.reshape(1, -1) if given.ndim < 2 else given
    rows, columns = (-(-side // side_max) for side in given.shape)
    if rows == columns == 1:
        return given, ""
    whole = given if given.dtype == torch.float64 else to_float32(given)
    cells = f"means of {rows:,} x {columns:,} blocks"
    note(
        Cut("size of the matrix", f"{tag!r:.80}: {tuple(given.shape)} is drawn as {cells}; at most {side_max:,} a side")
    )
    return block_means(whole, rows, columns), cells


def value_range(tag: str, ends: Any, note: Note) -> tuple[float, float] | None:
    """Return the two ends of the colours; None, the range of the matrix itself, for a range that is none."""
    try:
        return plain_range(ends)
    except Exception as error:  # noqa: BLE001 - the matrix is kept, whatever the error
        note(Cut("value_range", f"not used for {tag!r:.80}: {error}"))
        return None


def title(value: Any, tag: str, cells: str, note: Note) -> str:
    """Return the title of a matrix; behind the title (or the tag), what the cells are if the matrix was reduced."""
    if not cells:
        return label("title", value, note)
    mark = f" ({cells})"
    return (label("title", value, note, limits.LABEL_MAX_CHARACTERS - len(mark)) or tag) + mark


def block_means(values_HW: Tensor, height: int, width: int) -> Tensor:
    """Return the means of blocks of ``height`` by ``width`` values; the last blocks may be smaller."""
    kernel = (height, width)
    return avg_pool2d(values_HW[None, None], kernel, ceil_mode=True, count_include_pad=False)[0, 0]


class Clips(NamedTuple):
    """Clips, int16 ``[F, C]`` each, and no caption or one for each of them."""

    sounds: list[Tensor]
    captions: list[str]

    def slices(self, tag: str, size_max_bytes: int = ITEMS_SIZE_MAX_BYTES) -> list[RecordSlice]:
        """Split the clips into records."""
        sizes = [2 * sound.numel() + _CLIP_HEAD_BYTES for sound in self.sounds]
        return record_slices(tag, sizes, limits.CLIPS_MAX, size_max_bytes)


_CLIP_HEAD_BYTES: Final = LABEL_SIZE_MAX_BYTES + _ARRAY_HEAD_BYTES


def clips(tag: str, values: Any, given_captions: Any, note: Note, size_max_bytes: int = ITEMS_SIZE_MAX_BYTES) -> Clips:
    """Return the clips that can be kept, cut at the end where longer than a record, with their captions.

    Raises TypeError for values that are no sequence, ValueError when there is no clip among them.
    """
    if getattr(values, "ndim", None) == 1:
        values = [values]
    given = list(values)
    labels = captions(given_captions, len(given), "clips", note)
    kept, sounds, lost, cut = [], [], _Lost(), _Lost()
    for place, clip in enumerate(given):
        try:
            sound = clip_to_int16(clip, note)
        except Exception as error:  # noqa: BLE001 - the other clips are kept, whatever the error
            lost.add("are not kept", f"clip {place + 1}: {error}")
            continue
        frames_max = (size_max_bytes - _CLIP_HEAD_BYTES) // (2 * sound.shape[1])
        if len(sound) > frames_max:
            cut.add(f"are cut to {frames_max:,} frames", f"clip {place + 1}, of {len(sound):,}")
        kept.append(place)
        sounds.append(sound[:frames_max])
    for losses in (lost, cut):
        losses.tell("clips", len(given), note, f"{tag!r:.80}: ")
    if not given:
        raise ValueError(f"{tag!r:.80}: no clips; expected one or more, each [frames] or [channels, frames]")
    return Clips(sounds, [labels[place] for place in kept] if labels else [])


def sample_rate(value: Any, note: Note) -> int:
    """Return a sample rate in Hz as an int. Raises TypeError or ValueError for one that no player takes."""
    rate = float(on_host("sample_rate_hz", value))
    if not 1 <= rate <= limits.SAMPLE_RATE_MAX_HZ:
        raise ValueError(f"sample_rate_hz {rate:g}; expected 1 to {limits.SAMPLE_RATE_MAX_HZ:,} samples a second")
    if rate != round(rate):
        note(Cut("sample_rate_hz", f"{rate} is rounded to {round(rate)}"))
    return round(rate)


def wall_time_ns(walltime: Any, note: Note) -> int | None:
    """Return a time in seconds since 1970 as nanoseconds; None, the time now, for None and for a value that is no time.

    A record holds 64 bits of nanoseconds: the years 1677 to 2262.
    """
    if walltime is None:
        return None
    try:
        time_ns = round(Fraction(float(on_host("walltime", walltime))) * 10**9)
        if abs(time_ns) > _TIME_MAX_NS:
            raise ValueError(f"walltime {walltime!s:.80}; expected seconds since 1970")  # noqa: TRY301 - noted as others
    except Exception as error:  # noqa: BLE001 - the record is kept, whatever the error
        note(Cut("walltime", f"the record has the time of the call: {error!s:.200}"))
        return None
    return time_ns


def layout(categories: Mapping[Any, Any], note: Note) -> Layout | None:
    """Return the charts that fit a layout; None when charts came and none can be kept.

    A chart is a ``Chart``, or a pair of kind and tags as torch's writer takes it. A chart that cannot be drawn costs
    itself alone.
    """
    if not isinstance(categories, Mapping):
        raise TypeError(f"a {type(categories).__name__}; expected {{category: {{title: Chart}}}}")
    made: dict[str, Charts] = {}
    budget, lost = _Budget(limits.LAYOUT_PARTS_MAX), _Lost()
    total = 0
    names = _labels("names of categories", list(categories), note, limits.LABEL_MAX_CHARACTERS)
    for name, charts in zip(names, categories.values(), strict=True):
        kept = made.get(name, {})
        room = name in made or len(made) < limits.LAYOUT_CHARTS_MAX
        given = charts if isinstance(charts, Mapping) else {name: charts}
        titles = _labels("titles of charts", list(given), note, limits.LABEL_MAX_CHARACTERS)
        total += len(titles)
        for shown, given_chart in zip(titles, given.values(), strict=True):
            try:
                chart = _chart(given_chart, note)
            except (TypeError, ValueError) as error:
                lost.add("are not kept", f"{shown:.40}: {error}")
                continue
            if shown in kept:
                lost.add("are left out, because their title begins as that of another", f"{shown:.40}")
            elif not room or len(kept) == limits.LAYOUT_CHARTS_MAX or not budget.take(*_cost(name, shown, chart)):
                lost.add(f"are left out: a layout has at most {_LAYOUT_MAX}")
            else:
                kept[shown] = chart
        if kept or (room and charts == {}):
            made[name] = kept
    lost.tell("charts", total, note)
    return Layout(made) if made or not categories else None


_LAYOUT_MAX: Final = (
    f"{limits.LAYOUT_PARTS_MAX:,} charts and tags, {limits.LAYOUT_CHARTS_MAX:,} categories,"
    f" {limits.LAYOUT_CHARTS_MAX:,} charts in a category"
)


def _cost(name: str, shown_title: str, chart: Chart) -> tuple[int, int]:
    """Return the parts of a chart, and an upper bound for its encoded size with its title and its category's name."""
    labels = _UTF8_MAX_BYTES * (len(name) + len(shown_title)) + 16
    return 1 + len(chart.tags), len(encode_body(chart)) + labels


def _chart(given: Any, note: Note) -> Chart:
    """Return a chart. Raises TypeError or ValueError for one that TensorBoard cannot draw."""
    if not isinstance(given, Chart | list | tuple):
        raise TypeError("expected a Chart, or a pair of kind and tags")
    given_kind, tags = (given.kind, given.tags) if isinstance(given, Chart) else given
    tags = [tags] if isinstance(tags, str) else list(tags)
    good = [tag for tag in tags if isinstance(tag, str) and len(tag) <= limits.LABEL_MAX_CHARACTERS]
    good = [tag for tag in good if tag == as_text(tag)]
    kind = _CHART_KINDS.get(as_text(given_kind).lower())
    if kind is None:
        raise ValueError(f"a chart of kind {as_text(given_kind):.40}; expected multiline or margin")
    if kind == "margin" and not len(good) == len(tags) == 3:
        raise ValueError(f"a margin chart of {len(tags)} tags; expected three: value, lower, upper")
    if kind == "margin":  # its tags are names, not expressions
        return Chart(kind, list(map(shown_tag, good)))
    kept = good[: limits.LAYOUT_CHARTS_MAX]
    if len(kept) < len(tags):
        note(
            Cut(
                "tags of charts",
                f"{len(kept):,} of {len(tags):,} are kept; a chart has at most {limits.LAYOUT_CHARTS_MAX:,}, each a"
                f" text of at most {limits.LABEL_MAX_CHARACTERS:,} characters",
            )
        )
    return Chart(kind, kept)


def graph(given: Graph, note: Note) -> Graph:
    """Return the nodes that fit a record, from the first on; links to nodes that are left out are dropped.

    Raises TypeError for a value that is no ``Graph``, ValueError when none of its nodes can be kept.
    """
    if not isinstance(given, Graph):
        raise TypeError(f"a {type(given).__name__}; expected a Graph, as trace_graph(model, inputs) returns")
    kept: list[GraphNode] = []
    missing: set[str] = set()
    budget, lost = _Budget(limits.GRAPH_PARTS_MAX), _Lost()
    for node in given.nodes:
        try:
            fitting = _node(node, lost)
        except (TypeError, AttributeError) as error:
            lost.add("are not kept", error)
            continue
        full = missing or len(kept) == limits.GRAPH_NODES_MAX
        if full or not budget.take(node_parts(fitting), len(encode_body(fitting))):
            missing.add(fitting.name)
        else:
            kept.append(fitting)
    if missing:
        lost.add(
            f"are too many, the first {len(kept):,} are kept: a graph has at most {limits.GRAPH_NODES_MAX:,} nodes and"
            f" {limits.GRAPH_PARTS_MAX:,} links"
        )
    lost.tell("nodes", len(given.nodes), note)
    if given.nodes and not kept:
        raise ValueError(f"none of {len(given.nodes):,} nodes can be kept")
    missing.difference_update(node.name for node in kept)
    return Graph([_unlinked(node, missing) for node in kept] if missing else kept)


def _node(node: GraphNode, lost: "_Lost") -> GraphNode:
    """Return a node that fits its limits. Raises TypeError or AttributeError for what is no node."""
    most = limits.GRAPH_NODE_LINKS_MAX
    shapes = [shape for shape in node.output_shapes if _is_shape(shape)]
    if len(shapes) < len(node.output_shapes):
        lost.add("have output shapes that are left out: at most 8 sides, each -1 to 2**63 - 1", node.name)
    if max(len(node.inputs), len(shapes), len(node.attributes)) > most:
        lost.add(f"have inputs, outputs or attributes that are left out: at most {most:,} of each", node.name)
    attributes = {_short(name, lost): _short(text, lost) for name, text in islice(node.attributes.items(), most)}
    inputs = [_short(name, lost) for name in node.inputs[:most]]
    return GraphNode(_short(node.name, lost), _short(node.operation, lost), inputs, shapes[:most], attributes)


def _is_shape(sides: Sequence[Any]) -> bool:
    return len(sides) <= limits.ARRAY_DIMENSIONS_MAX and all(
        isinstance(side, int) and -1 <= side <= _SIDE_MAX for side in sides
    )


def _short(name: str, lost: "_Lost") -> str:
    if not isinstance(name, str):
        raise TypeError(f"a {type(name).__name__} among the names of a node; expected text")
    short = as_text(name)
    if len(short) > limits.LABEL_MAX_CHARACTERS:
        short = short[: limits.LABEL_MAX_CHARACTERS - 1] + CUT_MARK
    if short != name:
        lost.add(f"have texts that are cut to {limits.LABEL_MAX_CHARACTERS:,} characters", short[:40])
    return short


def _unlinked(node: GraphNode, missing: set[str]) -> GraphNode:
    inputs = [name for name in node.inputs if name not in missing]
    return GraphNode(node.name, node.operation, inputs, node.output_shapes, node.attributes)


class _Budget:
    """The parts and the bytes that the items of one record may still take."""

    def __init__(self, parts: int) -> None:
        self._parts = parts
        self._size_bytes = ITEMS_SIZE_MAX_BYTES

    def take(self, parts: int, size_bytes: int) -> bool:
        """Take the parts and bytes of an item; take nothing and return False when the item does not fit."""
        if parts > self._parts or size_bytes > self._size_bytes:
            return False
        self._parts -= parts
        self._size_bytes -= size_bytes
        return True
