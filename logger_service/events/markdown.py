"""Text that TensorBoard renders as markdown, from names and values that are not markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

# What python-markdown takes a backslash before, and the column separator of its tables.
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()>#+\-.!|])")


def plain(text: str) -> str:
    """Return one line that is shown as it is spelt."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of plain cells."""
    lines = [head, ["---"] * len(head), *([plain(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def numbered(items: Iterable[str]) -> str:
    """Return a list numbered from 1."""
    return "\n".join(f"{number}. {plain(item)}" for number, item in enumerate(items, 1))
