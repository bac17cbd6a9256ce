"""Markdown for TensorBoard, from names and values that are plain text."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tensorboard_sidecar.protocol.limits import TEXT_MAX_CHARACTERS

# The characters that python-markdown lets a backslash escape, and the column separator of its tables.
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()>#+\-.!|])")
_LAST_ROW_MAX_CHARACTERS: Final = 40


def plain(text: str) -> str:
    r"""Return one line that renders as ``text``: white space is collapsed, special characters are escaped.

    >>> plain("a|b_c")
    'a\\|b\\_c'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], characters_max: int = TEXT_MAX_CHARACTERS) -> str:
    """Return a table of plain cells, at most ``characters_max``; the last row counts the rows that did not fit."""
    lines = [_row(head), _row(["---"] * len(head))]
    room = characters_max - sum(len(line) + 1 for line in lines) - _LAST_ROW_MAX_CHARACTERS
    for place, row in enumerate(rows):
        line = _row([plain(cell) for cell in row])
        room -= len(line) + 1
        if room < 0:
            lines.append(_row([f"*{len(rows) - place:,} more*", *[""] * (len(head) - 1)]))
            break
        lines.append(line)
    return "\n".join(lines)


def numbered(items: Iterable[str]) -> str:
    """Return a numbered list, from 1."""
    return "\n".join(f"{number}. {plain(item)}" for number, item in enumerate(items, 1))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
