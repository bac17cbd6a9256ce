"""Whose a stream is: of the key that opened it. Nobody else may go on with it, before or after a restart.

The name of the key stands in a small file beside the stream's segments, from its first record on. Where nobody uses
keys there are no such files, and whoever has a stream's id may go on with it.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from protocol.errors import ProtocolError
from protocol.keys import check_key_name

OWNER_NAME: Final = "key-name"
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_MAX_BYTES: Final = 64


class NotItsOwner(ProtocolError):
    """A stream that another key opened."""


def check_owner(folder: Path, name: str, open_as: str) -> None:
    """Raise NotItsOwner when the stream in ``folder`` is not that of the key ``name``.

    ``open_as`` is the key it is open for now, if any. A stream that was begun without a key becomes that of the first
    key that comes. Without a ``name`` nothing is checked: there are no keys, or this logger itself speaks.
    """
    if not name:
        return
    owner = open_as or _read_owner(folder)
    if owner and owner != name:
        raise NotItsOwner(f"the stream is that of key {owner}, not of {name}; only {owner} may go on with it")
    if not owner:
        note_owner(folder, name)


def note_owner(folder: Path, name: str) -> None:
    """Write down whose a stream is, when it has a folder; a disk that is full is no reason to refuse it."""
    if name:
        with suppress(OSError):
            file = os.open(folder / OWNER_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            with open(file, "wb") as stream:  # noqa: PTH123 - opened already, without following links
                stream.write(name.encode())


def _read_owner(folder: Path) -> str:
    """Return the name of the key that a stream belongs to; empty when it is nobody's. Raises BadKey for rubbish."""
    try:
        file = os.open(folder / OWNER_NAME, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NotItsOwner(f"whose stream it is cannot be read: {error.strerror}") from None
    with open(file, "rb") as stream:  # noqa: PTH123 - opened already, without following links
        name = stream.read(_NAME_MAX_BYTES + 1).decode("ascii", "replace")
    return check_key_name(name) if name else ""
