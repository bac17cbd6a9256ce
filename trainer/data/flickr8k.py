"""Read a Flickr8k folder with spoken captions into training, validation and test pairs.

Two layouts are supported, by their published names: the original ``Flicker8k_Dataset/`` (with that spelling),
``Flickr8k_text/`` and ``flickr_audio/``, and a common re-upload with ``Images/`` and ``captions.txt``. Each part
lies in the root or, when each archive was unpacked into a separate folder, in a folder of the root.

A missing or broken file removes only its own pairs: broken files are counted, and the first few are named. This module
checks only the first bytes of each file; ``loader`` counts files that fail to decode and drops their pairs.

The text files have four formats in UTF-8, with a row in each line:

    token file      1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress .
    captions.txt    1000268201_693b08cb0e.jpg,"A child, in a pink dress ."        (CSV, header image,caption)
    wav2capt.txt    1000268201_693b08cb0e_0.wav 1000268201_693b08cb0e.jpg #0
    split list      1000268201_693b08cb0e.jpg

A malformed line is counted, named by its number, and skipped. A row of the CSV file never spans several lines: an
unclosed quote damages its own row only.
"""

import csv
import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from tensorboard_sidecar.trainer.data import limits
from tensorboard_sidecar.trainer.data.report import DataError, DataReport, Tally

Row = TypeVar("Row")
Splits = tuple[set[str], set[str], set[str]]

_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and lone surrogates, which stand for bytes that are not UTF-8."""
_IMAGE_STARTS: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n")
_AUDIO_STARTS: Final = (b"RIFF", b"RF64", b"fLaC", b"OggS", b"NIST_1A")

IMAGE_FOLDERS: Final = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
TOKEN_FILES: Final = ("Flickr8k_text/Flickr8k.token.txt", "Flickr8k.token.txt")
CSV_FILES: Final = ("captions.txt",)
SPOKEN_FILES: Final = ("flickr_audio/wav2capt.txt", "wav2capt.txt")
AUDIO_FOLDERS: Final = ("flickr_audio/wavs", "wavs")
SPLIT_FILES: Final = tuple(
    (f"Flickr8k_text/Flickr_8k.{split}Images.txt", f"Flickr_8k.{split}Images.txt") for split in ("train", "dev", "test")
)
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")

TRAIN_PERCENT: Final = 80
VALIDATION_PERCENT: Final = 10
VALIDATION_FROM_IMAGES: Final = 10
"""With this many images or more, the validation set is never empty."""


class MalformedLineError(ValueError):
    """A line does not have the format of its file; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption, the ``index``-th of its image."""

    image_name: str
    index: int
    caption: str


@dataclass(frozen=True, slots=True)
class SpokenRow:
    """A line of wav2capt.txt: the recording of the ``index``-th caption of an image."""

    audio_name: str
    image_name: str
    index: int


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


@dataclass(frozen=True, slots=True)
class Parts:
    """The paths of the parts of a data set."""

    images: Path
    captions: Path
    captions_are_csv: bool
    spoken: Path
    audio: Path
    splits: tuple[Path, Path, Path] | None
    """The lists for training, validation and test; None if any list is missing."""


def read_flickr8k(root: Path, split_seed: int = 0) -> Flickr8k:
    """Read a data set; ``split_seed`` serves one without split lists. Raises DataError, also without training pairs."""
    tally = Tally()
    try:
        parts = locate(root)
        captions = _captions(parts, tally)
        pairs = list(_pairs(parts, captions, tally))
        listed = _listed(parts.splits, tally) if parts.splits else None
    except OSError as error:
        raise DataError(f"cannot read the data set {root}: {error}") from error
    names = {row.image_name for row in captions}
    splits = listed or split_by_hash(names, split_seed)
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
        fits = stat.S_ISREG(status.st_mode) and status.st_size >= limits.FILE_MIN_BYTES
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


def locate(root: Path) -> Parts:
    """Find the parts under ``root``. Raises DataError with all missing parts, OSError for an unreadable folder."""
    places = _places(root)
    images = _first(places, IMAGE_FOLDERS, _holds_images)
    tokens = _first(places, TOKEN_FILES, Path.is_file)
    captions = tokens or _first(places, CSV_FILES, Path.is_file)
    spoken = _first(places, SPOKEN_FILES, Path.is_file)
    audio = _first(places, AUDIO_FOLDERS, Path.is_dir)
    missing = [
        f"no {description} ({' or '.join(names)})"
        for part, description, names in (
            (images, "folder of pictures", IMAGE_FOLDERS),
            (captions, "captions", TOKEN_FILES + CSV_FILES),
            (spoken, "list of spoken captions", SPOKEN_FILES),
            (audio, "folder of spoken captions", AUDIO_FOLDERS),
        )
        if part is None
    ]
    if images is None or captions is None or spoken is None or audio is None:
        searched = f"Searched this folder and the {len(places) - 1} folders in it."
        raise DataError(
            f"{root} is no Flickr8k with spoken captions: {'; '.join(missing)}."
            f" {searched if places else 'There is no such folder.'}"
            " `tensorboard-sidecar demo-data DIR` writes a small data set to try."
        )
    train, dev, test = (_first(places, names, Path.is_file) for names in SPLIT_FILES)
    splits = (train, dev, test) if train and dev and test else None
    return Parts(images, captions, tokens is None, spoken, audio, splits)


def _places(root: Path) -> list[Path]:
    """Return the root and its folders, sorted, without hidden folders and ``__MACOSX``; nothing if it is no folder."""
    if not root.is_dir():
        return []
    folders = (path for path in root.iterdir() if path.is_dir() and path.name[0] not in "._")
    return [root, *sorted(islice(folders, limits.FOLDERS_SEARCHED_MAX))]


def _first(places: Iterable[Path], names: Iterable[str], fits: Callable[[Path], bool]) -> Path | None:
    candidates = (place / name for place in places for name in names)
    return next((path for path in candidates if fits(path)), None)


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(path.name.lower().endswith(IMAGE_SUFFIXES) for path in folder.iterdir())


def split_by_hash(names: Iterable[str], seed: int) -> tuple[set[str], set[str], set[str]]:
    """Return (training, validation, test) names, about 80, 10 and 10 percent.

    The set of a name depends on the seed and the name alone, on every machine: additional or missing images move no
    other image. Exception: if the validation set of ten or more images would be empty, a tenth of the images with the
    lowest hashes becomes the validation set.
    """
    digests = ((name, hashlib.sha256(f"{seed}:{name}".encode()).digest()) for name in set(names))
    ranked = sorted((int.from_bytes(digest[:6]) / 2**48, name) for name, digest in digests)
    train_below = TRAIN_PERCENT / 100
    validation_below = train_below + VALIDATION_PERCENT / 100
    train = {name for fraction, name in ranked if fraction < train_below}
    validation = {name for fraction, name in ranked if train_below <= fraction < validation_below}
    test = {name for fraction, name in ranked if fraction >= validation_below}
    if not validation and len(ranked) >= VALIDATION_FROM_IMAGES:
        validation = {name for _, name in ranked[: len(ranked) * VALIDATION_PERCENT // 100]}
    return train - validation, validation, test - validation


def rows(file: BinaryIO, name: str, parse: Callable[[str], Row], tally: Tally) -> Iterator[Row]:
    """Yield the parsed non-blank lines; count in ``tally`` the lines for which ``parse`` raises MalformedLineError.

    A line beyond LINE_MAX_BYTES is truncated. Bytes that are not UTF-8 become lone surrogates, so that ``parse`` can
    use the rest of the line. Raises DataError for a file larger than TEXT_FILE_MAX_BYTES.
    """
    read_bytes = 0
    for number, raw in enumerate(iter(lambda: file.readline(limits.LINE_MAX_BYTES), b""), 1):
        read_bytes += len(raw) + _skip_rest(file, raw)
        if read_bytes > limits.TEXT_FILE_MAX_BYTES:
            raise DataError(f"{name} is larger than {limits.TEXT_FILE_MAX_BYTES} bytes: this is no list of captions")
        line = raw.decode("utf-8-sig", "surrogateescape").rstrip("\r\n")
        try:
            if line.strip():
                yield parse(line)
        except MalformedLineError as error:
            tally.add(f"lines of {name} not understood", f"line {number} ({error})")


def parse_token(line: str) -> CaptionRow:
    """Parse ``<image>#<index><TAB><caption>``."""
    key, tab, caption = line.partition("\t")
    image_name, hash_sign, index = key.rpartition("#")
    if not tab or not hash_sign:
        raise MalformedLineError("expected <image>#<index>, a tab, and the caption")
    return CaptionRow(parse_name(image_name), checked_index(index), checked_caption(caption))


def parse_csv(line: str) -> tuple[str, str]:
    """Parse ``<image>,<caption>``; the caption is returned unchecked (see ``checked_caption``).

    Unquoted commas belong to the caption; a caption with broken quotes is returned empty. An unusable caption must not
    be skipped here: captions are numbered by their position, and the numbers pair captions with recordings.
    """
    image_name, comma, _ = line.partition(",")
    if not comma:
        raise MalformedLineError("expected <image>,<caption>")
    try:
        fields = next(csv.reader([line], strict=True))
    except csv.Error:
        fields = [image_name, ""]
    return parse_name(fields[0]), ",".join(fields[1:])


def parse_spoken(line: str) -> SpokenRow:
    """Parse ``<audio> <image> #<index>``."""
    fields = line.split()
    if len(fields) != 3 or not fields[2].startswith("#"):
        raise MalformedLineError("expected <audio> <image> #<index>")
    audio_name, image_name, index = fields
    return SpokenRow(parse_name(audio_name), parse_name(image_name), checked_index(index[1:]))


def parse_name(text: str) -> str:
    """Return a plain file name. Raises MalformedLineError for a name that could leave its folder."""
    name = text.strip()
    if name in {"", ".", ".."} or "/" in name or "\\" in name or _NO_TEXT.search(name):
        raise MalformedLineError("expected a plain file name")
    if len(name.encode()) > limits.NAME_MAX_BYTES:
        raise MalformedLineError(f"a file name of more than {limits.NAME_MAX_BYTES} bytes")
    return name


def checked_caption(text: str) -> str:
    """Return the caption with single spaces. Raises MalformedLineError if it is empty, too long, or no text."""
    caption = " ".join(text.split())
    if not caption:
        raise MalformedLineError("an empty caption, or one with broken quotes")
    if len(caption) > limits.CAPTION_MAX_CHARS:
        raise MalformedLineError(f"a caption of more than {limits.CAPTION_MAX_CHARS} characters")
    if _NO_TEXT.search(caption):
        raise MalformedLineError("a caption with control characters or bytes that are not UTF-8")
    return caption


def checked_index(text: str | int) -> int:
    """Return the index of a caption. Raises MalformedLineError if it is no number below CAPTIONS_PER_IMAGE_MAX."""
    digits = str(text)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9 and int(digits) < limits.CAPTIONS_PER_IMAGE_MAX):
        raise MalformedLineError(f"expected a caption index below {limits.CAPTIONS_PER_IMAGE_MAX}")
    return int(digits)


def _skip_rest(file: BinaryIO, raw: bytes) -> int:
    """Skip the rest of a line beyond LINE_MAX_BYTES, in bounded pieces; return the number of bytes skipped."""
    skipped_bytes = 0
    while len(raw) == limits.LINE_MAX_BYTES and not raw.endswith(b"\n") and skipped_bytes <= limits.TEXT_FILE_MAX_BYTES:
        raw = file.readline(limits.LINE_MAX_BYTES)
        skipped_bytes += len(raw)
    return skipped_bytes
