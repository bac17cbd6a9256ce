"""Names of parametrised tests that are the same in every process."""

import re


def plain(value: object) -> str:
    """Return the representation of a value without an address in memory.

    >>> plain(object())
    '<object object>'
    """
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))
