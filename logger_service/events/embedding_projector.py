"""Embeddings for TensorBoard's embedding projector: files in the run's folder, beside the event files.

    <run>/projector_config.pbtxt                        the config; newest step first: the plugin opens the first entry
    <run>/projector/step-000000000240/joint.bytes ...   points, metadata, sprite, and an entry for the config
    <run>/projector/latest-step-240-joint/              an event file without content; or latest-before-step-240

Rule 1: files appear whole, by rename. The config is written after the files that it names; files are deleted after the
config that no longer names them. All of that is durable before the run's events tell that the record is projected.
Rule 2: the plugin caches the config until the set of runs changes (ProjectorPlugin._update_configs). Every update
therefore makes a marker, the folder ``latest-...``, which both loaders read as a new run, and removes the marker
before, which both loaders then forget. The list of runs shows one run without data, with the name of the marker.
Rule 3: the config shows the last steps of every tag. The files of one more step are kept for a plugin that still reads
the config before.
Rule 4: points are raw little-endian float32, which loads hundreds of times faster than text. The plugin first reads the
points as lines of text, and reads raw numbers only after a decoding error. Bytes that begin with a line of valid UTF-8
(zeros, for example) are therefore written as text.
Rule 5: an embedding that arrives in parts is shown when all parts are there (see ``embedding_parts``). An incomplete
embedding is deleted when the next embedding of its tag, or a new attempt, begins.
"""

import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace
from PIL import Image

from tensorboard_sidecar.logger_service.events.embedding_parts import (
    STATE_SUFFIX,
    Collected,
    IncompleteEmbedding,
    PartFiles,
    first_line,
    replace_file,
    text_lines,
)
from tensorboard_sidecar.logger_service.events.event_file import inside
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.logger_service.rendering.canvas import Picture, encode_png
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import Embedding
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.protocol.storage.durable import sync_folder

CONFIG_NAME: Final = "projector_config.pbtxt"
FOLDER_NAME: Final = "projector"
STEPS_SHOWN: Final = 3
_STEPS_KEPT: Final = STEPS_SHOWN + 1
_ENTRY_SUFFIX: Final = ".entry.json"
_MARKER_PREFIX: Final = "latest-"
MARKER_FILE_SUFFIX: Final = ".projector"
# The largest WebGL texture on common hardware; the embedding projector refuses a larger sprite.
SPRITE_SIDE_MAX_PIXELS: Final = 8192
_EMPTY_CELL: Final = "-"
_FILE_NAME_MAX_CHARACTERS: Final = 80
_UNSAFE_IN_FILE_NAMES: Final = re.compile(r"[^A-Za-z0-9._-]")
_UNSAFE_IN_TITLES: Final = re.compile(r"[&#+%:]")


class Entry(msgspec.Struct, frozen=True):
    """An embedding in the config: its file names are relative to the config; "" means no file."""

    tag: str
    step: int
    shape: tuple[int, int]
    points: str
    metadata: str = ""
    sprite: str = ""
    thumbnail_size: tuple[int, int] = (0, 0)


_DECODER: Final = msgspec.json.Decoder(Entry)


class EmbeddingProjector:
    """Writes the embeddings of one run directory. Raises OSError; PermissionError where a link leads out of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / FOLDER_NAME

    def write(self, embedding: Embedding, record: Record) -> list[Exception]:
        """Write an embedding, or a part; show an embedding that is complete. A second call changes nothing.

        Returns the errors of embeddings of this tag that are not shown, because parts were lost.
        """
        step_folder = inside(self._directory, self._folder / f"step-{record.step:012d}")
        name, errors = file_name(embedding.tag), []
        if embedding.first_row == 0:
            errors = self._give_up(f"step-*/.{name}{STATE_SUFFIX}", lambda known: known.sequence < record.sequence)
        step_folder.mkdir(parents=True, exist_ok=True)
        errors += self._write_whole_or_part(step_folder, embedding, record)
        for folder in (step_folder, self._folder, self._directory):
            if folder.is_dir():  # the folder of a step may be given up with its last file
                sync_folder(folder)
        return errors

    def _write_whole_or_part(self, step_folder: Path, embedding: Embedding, record: Record) -> list[Exception]:
        name = file_name(embedding.tag)
        if not embedding.row_count:
            PartFiles(step_folder, name).remove()
            self._write_embedding(step_folder, embedding, record.step)
        else:
            try:
                if not self._write_part(step_folder, embedding, record):
                    return []
            except IncompleteEmbedding as error:
                return [_not_shown(step_folder, name, error)]
        ranked = _rank(self._entries())
        self._write_config(ranked)
        self._announce(f"step-{record.step}-{name}", record.wall_time_ns)
        for place, path, _ in ranked:
            if place >= _STEPS_KEPT:
                _remove(path)
        return []

    def rewind(self, step: int, wall_time_ns: int) -> list[Exception]:
        """Delete the embeddings of earlier attempts from ``step`` on, where a new attempt begins; show the others.

        Returns the errors of embeddings that are not shown, because parts were lost.
        """
        inside(self._directory, self._folder)
        errors = self._give_up(f"step-*/.*{STATE_SUFFIX}", lambda known: known.wall_time_ns < wall_time_ns)
        entries = self._entries()
        beyond = [path for path, entry in entries if entry.step >= step]
        if beyond:
            ranked = _rank([(path, entry) for path, entry in entries if entry.step < step])
            self._write_config(ranked)
            self._announce(f"before-step-{step}" if ranked else "", wall_time_ns)
        for path in beyond:
            _remove(path)
        if beyond or errors:
            sync_folder(self._folder)
            sync_folder(self._directory)
        return errors

    def _write_embedding(self, folder: Path, embedding: Embedding, step: int) -> None:
        """Write the files of an embedding, the entry last."""
        name = file_name(embedding.tag)
        relative = f"{FOLDER_NAME}/{folder.name}/{name}"
        suffix, points = points_file(embedding.vectors.numpy())
        rows, columns = embedding.vectors.shape
        entry = Entry(embedding.tag, step, (rows, columns), f"{relative}.{suffix}")
        _replace(folder / f"{name}.{suffix}", points)
        if embedding.rows:
            entry = replace(entry, metadata=f"{relative}.metadata.tsv")
            _replace(folder / f"{name}.metadata.tsv", metadata_file(embedding.columns, embedding.rows))
        if embedding.thumbnails is not None:
            sheet, size = sprite(embedding.thumbnails.numpy())
            entry = replace(entry, sprite=f"{relative}.sprite.png", thumbnail_size=size)
            _replace(folder / f"{name}.sprite.png", sheet.png)
        _replace(folder / f"{name}{_ENTRY_SUFFIX}", msgspec.json.encode(entry))

    def _write_part(self, folder: Path, part: Embedding, record: Record) -> bool:
        """Collect a part; write the files of a complete embedding, the entry last. Return whether it is complete."""
        name = file_name(part.tag)
        files = PartFiles(folder, name)
        columns = part.columns if part.first_row == 0 else []
        known = files.take(part, metadata_file(columns, part.rows) if part.rows else b"", record)
        if not known.complete or part.first_row + part.vectors.shape[0] < part.row_count:
            return False  # also a part that is read again after the embedding was completed
        if not known.entry:
            entry = self._settle(folder, part, files, known, record.step)
            known = replace(known, entry=msgspec.json.encode(entry).decode())
            files.save(known)
        finals = {"bytes": files.points, "tsv": files.points_as_text, "metadata.tsv": files.metadata}
        entry = _DECODER.decode(known.entry)
        for suffix, path in finals.items():
            final = folder / f"{name}.{suffix}"
            if path.is_file() and final.name in (Path(entry.points).name, Path(entry.metadata).name):
                path.replace(final)
        _replace(folder / f"{name}{_ENTRY_SUFFIX}", known.entry.encode())
        files.remove(keep_state=True)
        return True

    def _settle(self, folder: Path, part: Embedding, files: PartFiles, known: Collected, step: int) -> Entry:
        """Return the entry of an embedding whose parts are all collected; write its sprite."""
        relative = f"{FOLDER_NAME}/{folder.name}/{file_name(part.tag)}"
        points = f"{relative}.{files.settle_points(known.dimensions)}"
        entry = Entry(part.tag, step, (known.row_count, known.dimensions), points)
        if known.metadata_bytes:
            entry = replace(entry, metadata=f"{relative}.metadata.tsv")
        if part.thumbnails is not None:
            sheet, size = sprite(files.pixels(known))
            entry = replace(entry, sprite=f"{relative}.sprite.png", thumbnail_size=size)
            _replace(self._directory / entry.sprite, sheet.png)
        return entry

    def _give_up(self, pattern: str, is_before: Callable[[Collected], bool]) -> list[Exception]:
        """Delete the incomplete embeddings that match; return an error for each that is not reported yet."""
        errors: list[Exception] = []
        for path in sorted(self._folder.glob(pattern)):
            files = PartFiles.of(path)
            known = files.load()
            if known is None or not known.entry:
                if known is not None and not (known.lost or known.complete) and is_before(known):
                    missing = f"rows from row {known.rows:,} of {known.row_count:,} on are missing"
                    errors.append(_not_shown(path.parent, path.name[1:].removesuffix(STATE_SUFFIX), missing))
                files.remove()
                _remove_folder(path.parent)
        return errors

    def _write_config(self, ranked: list[tuple[int, Path, Entry]]) -> None:
        """Write the config of the embeddings to show, newest step first; delete the config when there is none."""
        config = inside(self._directory, self._directory / CONFIG_NAME)
        shown = [(place, entry) for place, _, entry in ranked if place < STEPS_SHOWN]
        if shown:
            shown.sort(key=lambda item: (-item[1].step, item[1].tag))
            _replace(config, "".join(config_block(entry, latest=place == 0) for place, entry in shown).encode())
        else:
            config.unlink(missing_ok=True)

    def _announce(self, news: str, wall_time_ns: int) -> None:
        """Change the set of runs: replace the marker by ``latest-<news>``, or remove the marker for empty news."""
        marker = self._folder / f"{_MARKER_PREFIX}{news}"
        if news:
            marker.mkdir(exist_ok=True)
            event_file = f"events.out.tfevents.{max(0, wall_time_ns // 10**9):010d}{MARKER_FILE_SUFFIX}"
            _replace(marker / event_file, pack_frame(version_event(wall_time_ns)))
            sync_folder(marker)
        for other in self._folder.glob(f"{_MARKER_PREFIX}*"):
            if other != marker:
                _remove_marker(other)

    def _entries(self) -> list[tuple[Path, Entry]]:
        """Return the complete embeddings on disk; skip an entry that a power loss left empty."""
        entries = []
        for path in sorted(self._folder.glob(f"step-*/*{_ENTRY_SUFFIX}")):
            with suppress(msgspec.DecodeError):
                entries.append((path, _DECODER.decode(path.read_bytes())))
        return entries


def _rank(entries: list[tuple[Path, Entry]]) -> list[tuple[int, Path, Entry]]:
    """Return every embedding with its place among the embeddings of its tag; place 0 is the newest step."""
    seen: Counter[str] = Counter()
    ranked = []
    for path, entry in sorted(entries, key=lambda item: item[1].step, reverse=True):
        ranked.append((seen[entry.tag], path, entry))
        seen[entry.tag] += 1
    return ranked


def _replace(path: Path, content: bytes) -> None:
    replace_file(path, [content])


def _not_shown(folder: Path, name: str, reason: object) -> IncompleteEmbedding:
    return IncompleteEmbedding(f"embedding {name} of {folder.name} is not shown: {reason}")


def _remove(entry: Path) -> None:
    """Delete an embedding, its entry last: a process that was killed in between leaves the entry to the next."""
    name = entry.name.removesuffix(_ENTRY_SUFFIX)
    for suffix in ("bytes", "tsv", "metadata.tsv", "sprite.png"):
        entry.with_name(f"{name}.{suffix}").unlink(missing_ok=True)
    PartFiles(entry.parent, name).remove()
    entry.unlink(missing_ok=True)
    _remove_folder(entry.parent)


def _remove_marker(folder: Path) -> None:
    """Delete a marker; a folder with other files (a run of that name) stays."""
    for file in folder.glob(f"*{MARKER_FILE_SUFFIX}"):
        file.unlink(missing_ok=True)
    _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def file_name(tag: str) -> str:
    """Return the name for the files of a tag: ASCII, no separators, different for different tags."""
    name = _UNSAFE_IN_FILE_NAMES.sub("_", tag)[:_FILE_NAME_MAX_CHARACTERS]
    return name if name == tag else f"{name}-{zlib.crc32(tag.encode('utf-8', 'replace')):08x}"


def tensor_name(tag: str, step: int, *, latest: bool) -> str:
    """Return the name in the menu of the embedding projector, without the characters that break its routes.

    The menu is sorted and opens its first entry: the name of the latest step begins with "latest", which sorts before
    "step".
    """
    title = _UNSAFE_IN_TITLES.sub("_", tag)
    if title != tag:
        title += f" {zlib.crc32(tag.encode('utf-8', 'replace')):08x}"
    return f"{title} \N{MIDDLE DOT} {f'latest (step {step})' if latest else f'step {step}'}"


def points_file(vectors: npt.NDArray[np.float32]) -> tuple[str, bytes]:
    """Return suffix and content of the file of points: ``bytes``, or ``tsv`` when the raw bytes begin as valid text."""
    data = np.ascontiguousarray(vectors, "<f4").tobytes()
    if first_line(io.BytesIO(data)) is None:
        return "bytes", data
    return "tsv", _lines(text_lines(vectors))


def metadata_file(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return the metadata, a line a point. The plugin expects a head line for two or more columns, and none for one."""
    lines = [[_cell(cell) for cell in row] for row in rows]
    if len(columns) > 1:
        lines.insert(0, [_cell(column) for column in columns])
    return _lines("\t".join(line) for line in lines)


def sprite(
    thumbnails: npt.NDArray[np.uint8], side_max_pixels: int = SPRITE_SIDE_MAX_PIXELS
) -> tuple[Picture, tuple[int, int]]:
    """Lay thumbnails, uint8 ``[N, H, W, 3]``, in rows from the upper left.

    Returns the picture, and (width, height) of a thumbnail in it. There are as many rows as columns, and the last rows
    may stay black: the embedding projector divides by the number of columns where the number of rows belongs.
    Thumbnails are scaled down when the sheet would be wider than ``side_max_pixels``.
    """
    number, height, width, _ = thumbnails.shape
    across = math.ceil(math.sqrt(number))
    scale = min(1.0, side_max_pixels // across / max(width, height))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    sheet = np.zeros((across * height, across * width, 3), np.uint8)
    for place, thumbnail in enumerate(thumbnails):
        row, column = divmod(place, across)
        small = thumbnail if scale == 1.0 else _resize(thumbnail, width, height)
        sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = small
    return encode_png(sheet), (width, height)


def config_block(entry: Entry, *, latest: bool) -> str:
    """Return the part of ``projector_config.pbtxt`` for one embedding."""
    lines = [
        f"tensor_name: {_quote(tensor_name(entry.tag, entry.step, latest=latest))}",
        *(f"tensor_shape: {side}" for side in entry.shape),
        f"tensor_path: {_quote(entry.points)}",
    ]
    if entry.metadata:
        lines.append(f"metadata_path: {_quote(entry.metadata)}")
    if entry.sprite:
        width, height = entry.thumbnail_size
        sizes = f"single_image_dim: {width} single_image_dim: {height}"
        lines.append(f"sprite {{ image_path: {_quote(entry.sprite)} {sizes} }}")
    return "".join(["embeddings {\n", *(f"  {line}\n" for line in lines), "}\n"])


def _resize(picture: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[Any]:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def _cell(text: str) -> str:
    """Return one line without tabs, never blank: the plugin skips blank lines, and all labels after them shift."""
    return " ".join(text.split()) or _EMPTY_CELL


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _quote(text: str) -> str:
    """Return a string literal of the protobuf text format, with all characters except plain ASCII escaped."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
