"""Names of parametrised tests that are the same in every process."""

import re


def plain(value: object) -> str:
    """Return the representation of a value without an address in memory, and without the numbers of an array.

    >>> plain(object())
    '<object object>'
    """
    if hasattr(value, "shape"):
        return f"{type(value).__name__} {tuple(value.shape)}"
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))
