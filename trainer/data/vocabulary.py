"""Words and their numbers, for captions in any language.

A word is a run of letters, digits and the marks on them. Scripts written without spaces between words (Chinese,
Japanese, Thai, Khmer ...) give one token a character, symbols and emoji likewise; punctuation is dropped. Text is
compared in Unicode's compatibility form (NFKC) without case.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

PAD: Final = 0
UNKNOWN: Final = 1
START: Final = 2
END: Final = 3
SPECIALS: Final = ("<pad>", "<unknown>", "<start>", "<end>")
"""The first ids. No word of a text can equal one of these names: words hold no punctuation."""

WORDS_MAX: Final = 1_000_000
"""A vocabulary from a checkpoint may not be larger: 1 M words of width 512 are 2 GB of embedding."""

_JOINERS: Final = "\u00ad\u200c\u200d"
"""Soft hyphen and zero-width (non-)joiner: they stand inside words of Persian, Hindi and others."""

_ASCII_WORD: Final = re.compile(r"[a-z0-9]+|[$+<=>^`|~]")

_UNSPACED: Final = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x9FFF),  # CJK ideographs with extension A
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0x20000, 0x3FFFF),  # CJK extensions B and later
)


def words(text: str) -> list[str]:
    """Split a text into its tokens, in order."""
    if text.isascii():  # what follows would give the same, twenty times slower
        return _ASCII_WORD.findall(text.lower())
    found: list[str] = []
    extends = marks = False  # whether the next letter, the next mark belongs to the last token
    for character in unicodedata.normalize("NFKC", text).casefold():
        kind = unicodedata.category(character)[0]
        if character in _JOINERS:
            continue
        if (kind == "M" and marks) or (kind in "LN" and extends and not _unspaced(character)):
            found[-1] += character
        elif kind in "LNS":
            found.append(character)
            extends, marks = kind != "S" and not _unspaced(character), True
        else:
            extends = marks = False
    return found


def _unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _UNSPACED)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words a model knows, in the order of their ids, which follow those of `SPECIALS`.

    `list(vocabulary.words)` is what a checkpoint keeps; `Vocabulary.restore` takes it back.
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Give the words their ids; raise ValueError if one occurs twice or there are too many."""
        ids = {word: number for number, word in enumerate(self.words, len(SPECIALS))}
        if len(ids) != len(self.words) or len(ids) > WORDS_MAX or ids.keys() & set(SPECIALS):
            raise ValueError(f"a vocabulary is at most {WORDS_MAX} different words, none of them of {SPECIALS}")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(cls, captions: Iterable[str], max_size: int = 10_000) -> Self:
        """Take the most frequent words; `max_size` bounds all ids, the special ones included.

        Words that are equally frequent are taken in alphabetical order: the result depends on nothing else.
        """
        if max_size <= len(SPECIALS):
            raise ValueError(f"max_size is {max_size}, but the special tokens alone are {len(SPECIALS)}")
        counts = Counter(word for caption in captions for word in words(caption))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[: max_size - len(SPECIALS)]))

    @classmethod
    def restore(cls, saved: object) -> Self:
        """Make the vocabulary again from a saved list of words. Raises ValueError if it is no such list."""
        if not isinstance(saved, list) or not all(isinstance(word, str) and word for word in saved):
            raise ValueError("expected the vocabulary as a list of words")
        return cls(tuple(saved))

    def __len__(self) -> int:
        return len(SPECIALS) + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return START, the ids of the words (UNKNOWN for those not known), END."""
        return [START, *(self._ids.get(word, UNKNOWN) for word in words(text)), END]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words joined by spaces, without padding, START and END. Raises ValueError on an unknown id."""
        return " ".join(self._decoded(ids))

    def _decoded(self, ids: Sequence[int]) -> Iterator[str]:
        for number in ids:
            if not 0 <= number < len(self):
                raise ValueError(f"token id {number} is not below {len(self)}")
            if number == UNKNOWN:
                yield SPECIALS[UNKNOWN]
            elif number >= len(SPECIALS):
                yield self.words[number - len(SPECIALS)]
