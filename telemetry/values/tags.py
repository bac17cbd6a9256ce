"""Tags of users to tags that TensorBoard shows."""

import zlib
from collections.abc import Collection, Iterator, Mapping
from enum import Enum
from itertools import chain, count, islice
from typing import Final, TypeVar

import numpy as np

from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS, TAGS_MAX
from tensorboard_sidecar.protocol.names import UNPRINTABLE, check_tag

T = TypeVar("T")
UNTITLED: Final = "untitled"
CUT_MARK: Final = "\N{HORIZONTAL ELLIPSIS}"
_CONTROL_PICTURES: Final = 0x2400
_NUMBER_MAX_CHARACTERS: Final = 16


def shown_tag(tag: object) -> str:
    r"""Return a tag that TensorBoard shows: ``tag`` itself where possible. Raises Malformed for what is no text.

    A number or an Enum gives its text, a blank tag gives ``untitled``. Control characters become their visible
    pictures, marks of text direction become escapes, lone surrogates become U+FFFD. A tag that is too long, or has lone
    surrogates, ends with a checksum of the original tag, so that different tags stay different.

    >>> shown_tag("a cat\nphoto")
    'a cat␊photo'
    """
    if not isinstance(tag, str):
        if not isinstance(tag, int | np.integer | Enum):
            raise Malformed(f"a tag is a {type(tag).__name__}; expected text")
        tag = str(tag)
    try:
        return check_tag(tag)
    except ProtocolError:
        shown = UNPRINTABLE.sub(lambda match: _visible(match[0]), tag)
    if shown.isspace() or not shown:
        return UNTITLED
    if len(shown) <= TAG_MAX_CHARACTERS and "\ufffd" not in shown:
        return shown
    end = f"{CUT_MARK}{zlib.crc32(tag.encode('utf-8', 'surrogatepass')):08x}"
    return shown[: TAG_MAX_CHARACTERS - len(end)] + end


def distinct_tag(tag: str, taken: Collection[str]) -> str:
    """Return ``tag``, with a number at its end if ``taken`` has it already.

    >>> distinct_tag("lr", {"lr"})
    'lr (2)'
    """
    if tag not in taken:
        return tag
    base = tag[: TAG_MAX_CHARACTERS - _NUMBER_MAX_CHARACTERS]
    numbers = chain((2,), count(len(taken) + 1))  # at once a high number: many equal tags must not take long
    return next(name for name in (f"{base} ({number})" for number in numbers) if name not in taken)


def in_records(values: Mapping[str, T]) -> Iterator[dict[str, T]]:
    """Yield values by tag in groups of at most TAGS_MAX, the limit of one record; one empty group for no values."""
    items = iter(values.items())
    yield dict(islice(items, TAGS_MAX))
    while group := dict(islice(items, TAGS_MAX)):
        yield group


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    if code == 0x7F:
        return "\N{SYMBOL FOR DELETE}"
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else character.encode("unicode_escape").decode("ascii")
