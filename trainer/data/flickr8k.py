"""Read a Flickr8k folder with spoken captions into training, validation and test pairs.

Both common layouts are supported (see ``locate``). A missing or broken file removes only its own pairs: broken files
are counted, and the first few are named. This module checks only the first bytes of each file; ``loader`` counts files
that fail to decode and drops their pairs from the batches.
"""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tensorboard_sidecar.trainer.data.limits import FILE_MIN_BYTES
from tensorboard_sidecar.trainer.data.locate import Parts, locate
from tensorboard_sidecar.trainer.data.report import DataError, DataReport, Tally
from tensorboard_sidecar.trainer.data.split import split_by_hash
from tensorboard_sidecar.trainer.data.tables import (
    CaptionRow,
    MalformedLineError,
    checked_caption,
    checked_index,
    parse_csv,
    parse_name,
    parse_spoken,
    parse_token,
    rows,
)

Row = TypeVar("Row")
Splits = tuple[set[str], set[str], set[str]]

_IMAGE_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n")
_AUDIO_STARTS: Final = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"NIST_1A")


@dataclass(frozen=True, slots=True)
class Pair:
    """One caption of one image, and the recording of the spoken caption."""

    image: Path
    audio: Path
    caption: str
    image_name: str
    caption_index: int


@dataclass(frozen=True, slots=True)
class Flickr8k:
    """The pairs of a data set by split, in the order of its caption file, and a report about skipped files."""

    train: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...]
    report: DataReport


def read_flickr8k(root: Path, split_seed: int = 0) -> Flickr8k:
    """Read the data set under ``root``; ``split_seed`` is used only for a data set without split lists.

    Raises DataError if the folder is no Flickr8k, cannot be read, or has no training pair.
    """
    try:
        return _read(root, split_seed)
    except OSError as error:
        raise DataError(f"cannot read the data set {root}: {error}") from error


def _read(root: Path, split_seed: int) -> Flickr8k:
    tally = Tally()
    parts = locate(root)
    captions = _captions(parts, tally)
    pairs = list(_pairs(parts, captions, tally))
    names = {row.image_name for row in captions}
    splits = _listed(parts.splits, tally) if parts.splits else split_by_hash(names, split_seed)
    train, validation, test = (tuple(p for p in pairs if p.image_name in split) for split in splits)
    unlisted = sum(1 for name in names if not any(name in split for split in splits))
    notes = _notes(root, parts, (train, validation, test), unlisted)
    report = DataReport(notes, tally.problems())
    if not train:
        raise DataError("\n  ".join((f"{root} holds no usable training pair:", *report.lines())))
    return Flickr8k(train, validation, test, report)


def _table(path: Path, parse: Callable[[str], Row], tally: Tally) -> Iterator[Row]:
    with path.open("rb") as file:
        yield from rows(file, path.name, parse, tally)


def _captions(parts: Parts, tally: Tally) -> list[CaptionRow]:
    """Read the captions of either format; of duplicates (image, index) the first."""
    found = _numbered(parts.captions, tally) if parts.captions_are_csv else _table(parts.captions, parse_token, tally)
    captions: dict[tuple[str, int], CaptionRow] = {}
    for row in found:
        if captions.setdefault((row.image_name, row.index), row) is not row:
            tally.add("captions given twice (the first is used)", f"{row.image_name}#{row.index}")
    return list(captions.values())


def _numbered(path: Path, tally: Tally) -> Iterator[CaptionRow]:
    """Read captions.txt, where the index of a caption is its position among the captions of its image."""
    table = _table(path, parse_csv, tally)
    header = next(table, ("", ""))
    if tuple(field.casefold() for field in header) != ("image", "caption"):
        raise DataError(f"{path} does not start with the line `image,caption`: this is no caption list of Flickr8k")
    seen: Counter[str] = Counter()
    for image_name, text in table:
        index = seen[image_name]
        seen[image_name] += 1
        try:
            yield CaptionRow(image_name, checked_index(index), checked_caption(text))
        except MalformedLineError as error:
            tally.add("captions left out", f"{image_name}#{index} ({error})")


def _pairs(parts: Parts, captions: Iterable[CaptionRow], tally: Tally) -> Iterator[Pair]:
    """Join captions, recordings and pictures; count and skip captions without a recording or picture."""
    spoken = {(r.image_name, r.index): r.audio_name for r in _table(parts.spoken, parse_spoken, tally)}
    usable: dict[str, bool] = {}
    for row in captions:
        image, name = parts.images / row.image_name, row.image_name
        if name not in usable:
            usable[name] = _usable(image, _IMAGE_STARTS, "pictures", tally)
        if not usable[name]:
            continue
        audio_name = spoken.get((name, row.index))
        if audio_name is None:
            tally.add("captions nobody speaks, left out", f"{name}#{row.index}")
        elif _usable(audio := parts.audio / audio_name, _AUDIO_STARTS, "recordings", tally):
            yield Pair(image, audio, row.caption, name, row.index)


def _usable(path: Path, starts: tuple[bytes, ...], kind: str, tally: Tally) -> bool:
    """Tell whether ``path`` is a regular file that starts with one of the signatures; count the file if not.

    The check is one open and one read of eight bytes; decoding each header would take three times as long.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # an open of a named pipe must not block
    except OSError as error:
        tally.add(f"{kind} missing or unreadable", f"{path.name} ({error.strerror})")
        return False
    try:
        status = os.fstat(descriptor)
        fits = stat.S_ISREG(status.st_mode) and status.st_size >= FILE_MIN_BYTES
        fits = fits and os.read(descriptor, 8).startswith(starts)
    finally:
        os.close(descriptor)
    if not fits:
        tally.add(f"{kind} broken", path.name)
    return fits


def _listed(paths: tuple[Path, Path, Path], tally: Tally) -> Splits:
    """Read the split lists; a name in two lists counts for the first, so that no training image is in the test set."""
    splits: Splits = (set(), set(), set())
    for path, split in zip(paths, splits, strict=True):
        for name in _table(path, parse_name, tally):
            if any(name in earlier for earlier in splits if earlier is not split):
                tally.add("images in two split lists (the first is used)", name)
            else:
                split.add(name)
    return splits


def _notes(root: Path, parts: Parts, splits: tuple[tuple[Pair, ...], ...], unlisted: int) -> tuple[str, ...]:
    """Return notes about the data set: where the parts are, sizes of the splits, and their peculiarities."""
    counts = ", ".join(
        f"{len(pairs)} pairs of {len({pair.image_name for pair in pairs})} images for {name}"
        for name, pairs in zip(("training", "validation", "test"), splits, strict=True)
    )
    notes = [f"{root}: pictures in {parts.images.name}, captions in {parts.captions.name}", counts]
    if parts.splits is None:
        notes.append("no complete split lists: images are divided 80/10/10 by a hash of their names")
    if unlisted:
        notes.append(f"{unlisted} images are in no split list and are left out")
    if not splits[1]:
        notes.append("the validation split is empty: nothing can be validated")
    return tuple(notes)
