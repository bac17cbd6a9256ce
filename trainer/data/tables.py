"""Parsers for the text files of Flickr8k: line by line, with bounds and checks; no access to folders.

Four formats in UTF-8, with a row in each line:

    token file      1000268201_693b08cb0e.jpg#0<TAB>A child in a pink dress .
    captions.txt    1000268201_693b08cb0e.jpg,"A child, in a pink dress ."        (CSV, header image,caption)
    wav2capt.txt    1000268201_693b08cb0e_0.wav 1000268201_693b08cb0e.jpg #0
    split list      1000268201_693b08cb0e.jpg

A malformed line is counted, named by its number, and skipped. A row of the CSV file never spans several lines: an
unclosed quote damages its own row only.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from tensorboard_sidecar.trainer.data import limits
from tensorboard_sidecar.trainer.data.report import DataError, Tally

Row = TypeVar("Row")

_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""Control characters, and lone surrogates, which stand for bytes that are not UTF-8."""


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
