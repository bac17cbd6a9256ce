"""Untrusted text for a terminal, and lines for a reader who may be gone."""

import os
import sys


def printable(text: str) -> str:
    r"""Return ``text`` with every character escaped that does not print, so that no text can move the cursor.

    >>> printable("done\x1b[2J")
    'done\\x1b[2J'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def print_line(line: object) -> None:
    """Print a line of a command, and flush.

    When the reader of stdout is gone (``status | head``), the command goes on, and its exit code still counts.
    """
    try:
        print(line, flush=True)  # noqa: T201 - for command lines alone
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
