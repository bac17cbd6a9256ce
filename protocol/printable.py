"""Untrusted text for a terminal."""


def printable(text: str) -> str:
    r"""Return ``text`` with every character escaped that does not print, so that no text can move the cursor.

    >>> printable("done\x1b[2J")
    'done\\x1b[2J'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
