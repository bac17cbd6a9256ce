"""Tokenizer and vocabulary for captions in any language.

A word is a sequence of letters, digits and combining marks. In scripts without spaces between words (Chinese,
Japanese, Thai, Khmer ...) each character is a token, and so is each symbol or emoji; punctuation is dropped. Text is
normalized to NFKC and case-folded.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

PAD: Final = 0
UNKNOWN: Final = 1
START: Final = 2
END: Final = 3
SPECIALS: Final = ("<pad>", "<unknown>", "<start>", "<end>")
"""The first ids. No word equals such a name, because words contain no punctuation."""

WORDS_MAX: Final = 1_000_000
"""Bounds a vocabulary from a checkpoint: a million words of width 512 are 2 GB of embedding."""

_JOINERS: Final = "\u00ad\u200c\u200d"
"""Soft hyphen and zero-width (non-)joiner, which occur inside words of Persian, Hindi and other languages."""

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
    """Return the tokens of a text, in order."""
    if text.isascii():  # same result as below, twenty times faster
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
    """The words of a model in the order of their ids; the first word follows the ids of ``SPECIALS``.

    A checkpoint keeps ``list(vocabulary.words)``; ``Vocabulary.restore`` makes the vocabulary from that list.
    """

    words: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Assign ids; raise ValueError for a duplicate word or too many words."""
        ids = {word: number for number, word in enumerate(self.words, len(SPECIALS))}
        if len(ids) != len(self.words) or len(ids) > WORDS_MAX or ids.keys() & set(SPECIALS):
            raise ValueError(f"a vocabulary is at most {WORDS_MAX} different words, none of them of {SPECIALS}")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def build(cls, captions: Iterable[str], max_size: int = 10_000) -> Self:
        """Return the vocabulary of the most frequent words; ``max_size`` includes the special tokens.

        Equally frequent words are taken in alphabetical order, so that the result does not depend on the order of the
        captions. Raises ValueError for a ``max_size`` without room for words.
        """
        if max_size <= len(SPECIALS):
            raise ValueError(f"max_size is {max_size}, but the special tokens alone are {len(SPECIALS)}")
        counts = Counter(word for caption in captions for word in words(caption))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(tuple(ranked[: max_size - len(SPECIALS)]))

    @classmethod
    def restore(cls, saved: object) -> Self:
        """Return the vocabulary of a saved list of words. Raises ValueError for anything else."""
        if not isinstance(saved, list) or not all(isinstance(word, str) and word for word in saved):
            raise ValueError("expected the vocabulary as a list of words")
        return cls(tuple(saved))

    def __len__(self) -> int:
        return len(SPECIALS) + len(self.words)

    def encode(self, text: str) -> list[int]:
        """Return START, the ids of the words (UNKNOWN for unknown words), END."""
        return [START, *(self._ids.get(word, UNKNOWN) for word in words(text)), END]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the words joined by spaces, without padding, START and END. Raises ValueError on an unknown id."""
        for number in ids:
            if not 0 <= number < len(self):
                raise ValueError(f"token id {number} is not below {len(self)}")
        tokens = (*SPECIALS, *self.words)
        return " ".join(tokens[number] for number in ids if number not in (PAD, START, END))
