"""Text from elsewhere on its way to a terminal."""


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that is not to be seen: what came from elsewhere moves no cursor."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )
