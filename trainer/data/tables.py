"""The text files of Flickr8k, line by line: bounded, checked, and without any knowledge of folders.

Four formats, each one line a row, UTF-8:

    token file      1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress .
    captions.txt    1000268201_693b08cb0e.jpg,"A child, in a pink dress ."        (CSV, header image,caption)
    wav2capt.txt    1000268201_693b08cb0e_0.wav 1000268201_693b08cb0e.jpg #0
    split list      1000268201_693b08cb0e.jpg

A line that is not understood is counted, named by its number, and skipped. A row of the CSV is one line: a quote
that is never closed spoils its own row and not the rest of the file.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from tensorboard_sidecar.trainer.data.limits import (
    CAPTION_MAX_CHARS,
    CAPTIONS_PER_IMAGE_MAX,
    LINE_MAX_BYTES,
    NAME_MAX_BYTES,
    TEXT_FILE_MAX_BYTES,
)
from tensorboard_sidecar.trainer.data.report import DataError, Tally

Row = TypeVar("Row")

_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and the surrogates that stand for bytes that are not UTF-8."""


class MalformedLineError(ValueError):
    """The line is not of its file's format; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CaptionRow:
    """A caption of the token file: the `index`-th of its image."""

    image_name: str
    index: int
    caption: str


@dataclass(frozen=True, slots=True)
class SpokenRow:
    """A line of wav2capt.txt: which recording speaks the `index`-th caption of an image."""

    audio_name: str
    image_name: str
    index: int


def rows(file: BinaryIO, name: str, parse: Callable[[str], Row], tally: Tally) -> Iterator[Row]:
    """Yield what `parse` makes of each line that is not blank; count in `tally` the lines it refuses.

    Of a line beyond the limit `parse` sees the beginning. Bytes that are not UTF-8 reach it as lone surrogates, so
    that it can still use the rest of the line. Raises DataError if the file is larger than the limit.
    """
    read_bytes = 0
    for number, raw in enumerate(iter(lambda: file.readline(LINE_MAX_BYTES), b""), 1):
        read_bytes += len(raw) + _skip_rest(file, raw)
        if read_bytes > TEXT_FILE_MAX_BYTES:
            raise DataError(f"{name} is larger than {TEXT_FILE_MAX_BYTES} bytes: this is no list of captions")
        line = raw.decode("utf-8-sig", "surrogateescape").rstrip("\r\n")
        try:
            if line.strip():
                yield parse(line)
        except MalformedLineError as error:
            tally.add(f"lines of {name} not understood", f"line {number} ({error})")


def parse_token(line: str) -> CaptionRow:
    """Read `<image>#<index><TAB><caption>`."""
    key, tab, caption = line.partition("\t")
    image_name, hash_sign, index = key.rpartition("#")
    if not tab or not hash_sign:
        raise MalformedLineError("expected <image>#<index>, a tab, and the caption")
    return CaptionRow(_file_name(image_name), checked_index(index), checked_caption(caption))


def parse_csv(line: str) -> tuple[str, str]:
    """Read `<image>,<caption>`, the caption as it stands (see `checked_caption`).

    Commas that nobody quoted belong to the caption; one with broken quotes is empty. A caption that is no use must
    not be passed over here: it takes a number, and those after it in the file are paired with recordings by theirs.
    """
    image_name, comma, _ = line.partition(",")
    if not comma:
        raise MalformedLineError("expected <image>,<caption>")
    try:
        fields = next(csv.reader([line], strict=True))
    except csv.Error:
        fields = [image_name, ""]
    return _file_name(fields[0]), ",".join(fields[1:])


def parse_spoken(line: str) -> SpokenRow:
    """Read `<audio> <image> #<index>`."""
    fields = line.split()
    if len(fields) != 3 or not fields[2].startswith("#"):
        raise MalformedLineError("expected <audio> <image> #<index>")
    audio_name, image_name, index = fields
    return SpokenRow(_file_name(audio_name), _file_name(image_name), checked_index(index[1:]))


def parse_name(line: str) -> str:
    """Read a line that is one file name."""
    return _file_name(line)


def checked_caption(text: str) -> str:
    """Return the caption with single spaces. Raises MalformedLineError if it is empty, prose, or no text."""
    caption = " ".join(text.split())
    if not caption:
        raise MalformedLineError("an empty caption, or one with broken quotes")
    if len(caption) > CAPTION_MAX_CHARS:
        raise MalformedLineError(f"a caption of more than {CAPTION_MAX_CHARS} characters")
    if _NO_TEXT.search(caption):
        raise MalformedLineError("a caption with control characters or bytes that are not UTF-8")
    return caption


def checked_index(text: str | int) -> int:
    """Return the index of a caption among those of its image. Raises MalformedLineError if it is none."""
    digits = str(text)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 9 and int(digits) < CAPTIONS_PER_IMAGE_MAX):
        raise MalformedLineError(f"expected a caption index below {CAPTIONS_PER_IMAGE_MAX}")
    return int(digits)


def _skip_rest(file: BinaryIO, raw: bytes) -> int:
    """Pass over what a line has beyond the limit, in bounded pieces; return how many bytes that was."""
    skipped_bytes = 0
    while len(raw) == LINE_MAX_BYTES and not raw.endswith(b"\n") and skipped_bytes <= TEXT_FILE_MAX_BYTES:
        raw = file.readline(LINE_MAX_BYTES)
        skipped_bytes += len(raw)
    return skipped_bytes


def _file_name(text: str) -> str:
    """Return the name if it can only name a file inside its own folder."""
    name = text.strip()
    if name in {"", ".", ".."} or "/" in name or "\\" in name or _NO_TEXT.search(name):
        raise MalformedLineError("expected a plain file name")
    if len(name.encode()) > NAME_MAX_BYTES:
        raise MalformedLineError(f"a file name of more than {NAME_MAX_BYTES} bytes")
    return name
