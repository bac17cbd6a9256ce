"""Embeddings for TensorBoard's embedding projector: files in the run's folder, beside the event files.

    <run>/projector_config.pbtxt                        the config; newest step first: the plugin opens the first entry
    <run>/projector/step-000000000240/joint.bytes ...   points, metadata, sprite, and an entry for the config
    <run>/projector/latest-step-240-joint/              an event file without content; or latest-before-step-240

Rule 1: files appear whole, by rename. The config is written after the files that it names; files are deleted after the
config that no longer names them.
Rule 2: the plugin caches the config until the set of runs changes (ProjectorPlugin._update_configs). Every update
therefore makes a marker, the folder ``latest-...``, which both loaders read as a new run, and removes the marker
before, which both loaders then forget. The list of runs shows one run without data, with the name of the marker.
Rule 3: the config shows the last steps of every tag. The files of one more step are kept for a plugin that still reads
the config before.
"""

import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from tensorboard_sidecar.logger_service.events.embedding_files import (
    Entry,
    config_block,
    file_name,
    metadata_file,
    points_file,
    sprite,
)
from tensorboard_sidecar.logger_service.events.event_paths import inside
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import Embedding
from tensorboard_sidecar.protocol.record import Record

CONFIG_NAME: Final = "projector_config.pbtxt"
FOLDER_NAME: Final = "projector"
STEPS_SHOWN: Final = 3
_STEPS_KEPT: Final = STEPS_SHOWN + 1
_ENTRY_SUFFIX: Final = ".entry.json"
_DECODER: Final = msgspec.json.Decoder(Entry)
_MARKER_PREFIX: Final = "latest-"
MARKER_FILE_SUFFIX: Final = ".projector"


class EmbeddingProjector:
    """Writes the embeddings of one run directory. Raises OSError; PermissionError where a link leads out of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._folder = directory / FOLDER_NAME

    def write(self, embedding: Embedding, record: Record) -> None:
        """Write an embedding, and show it in the config; a second call with the same arguments changes nothing."""
        step_folder = inside(self._directory, self._folder / f"step-{record.step:012d}")
        step_folder.mkdir(parents=True, exist_ok=True)
        self._write_embedding(step_folder, embedding, record.step)
        ranked = _rank(self._entries())
        self._write_config([(place, entry) for place, _, entry in ranked if place < STEPS_SHOWN])
        self._announce(f"step-{record.step}-{file_name(embedding.tag)}", record.wall_time_ns)
        for place, path, _ in ranked:
            if place >= _STEPS_KEPT:
                _remove(path)

    def rewind(self, step: int, wall_time_ns: int) -> None:
        """Delete the embeddings of earlier attempts from ``step`` on, where a new attempt begins; show the others."""
        inside(self._directory, self._folder)
        entries = self._entries()
        beyond = [path for path, entry in entries if entry.step >= step]
        if beyond:
            ranked = _rank([(path, entry) for path, entry in entries if entry.step < step])
            self._write_config([(place, entry) for place, _, entry in ranked if place < STEPS_SHOWN])
            self._announce(f"before-step-{step}" if ranked else "", wall_time_ns)
        for path in beyond:
            _remove(path)

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

    def _write_config(self, shown: list[tuple[int, Entry]]) -> None:
        """Write the config of the shown embeddings, newest step first; delete the config when none is shown."""
        config = inside(self._directory, self._directory / CONFIG_NAME)
        shown.sort(key=lambda item: (-item[1].step, item[1].tag))
        if shown:
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
    """Write a file that appears whole or not at all; follow no link."""
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    file = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
    unfinished.replace(path)


def _remove(entry: Path) -> None:
    """Delete an embedding, its entry last: a process that was killed in between leaves the entry to the next."""
    name = entry.name.removesuffix(_ENTRY_SUFFIX)
    for suffix in ("bytes", "tsv", "metadata.tsv", "sprite.png"):
        entry.with_name(f"{name}.{suffix}").unlink(missing_ok=True)
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
