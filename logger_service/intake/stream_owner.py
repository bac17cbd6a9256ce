"""Whose a stream is: of the key that opened it. Nobody else may go on with it, before or after a restart.

The name of the key stands in a small file beside the stream's segments, durable before its first record is. Where
nobody uses keys there are no such files, and whoever has a stream's id may go on with it.
"""

import os
import stat
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.storage.durable import write_file
from tensorboard_sidecar.protocol.storage.key_files import check_key_name

OWNER_NAME: Final = "key-name"
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_MAX_BYTES: Final = 64


class NotItsOwner(ProtocolError):
    """A stream that another key opened."""


def check_owner(folder: Path, name: str, open_as: str) -> None:
    """Raise NotItsOwner when the stream in ``folder`` is not that of the key ``name``.

    ``open_as`` is the key it is open for now, if any. Without a ``name`` nothing is checked: there are no keys.
    """
    owner = (open_as or _read_owner(folder)) if name else ""
    if owner and owner != name:
        raise NotItsOwner(f"the stream is that of key {owner}, not of {name}; only {owner} may go on with it")


def note_owner(folder: Path, name: str) -> None:
    """Write down whose the stream in ``folder`` is, unless that is written there; it is durable on return.

    A stream that was begun without a key becomes that of the first key that comes. Raises OSError, NotItsOwner.
    """
    if name and not _read_owner(folder):
        write_file(folder / OWNER_NAME, name.encode())


def _read_owner(folder: Path) -> str:
    """Return the name of the key that a stream belongs to; empty when it is nobody's. Raises BadKey for rubbish."""
    try:
        file = os.open(folder / OWNER_NAME, _FLAGS)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NotItsOwner(f"whose stream it is cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise NotItsOwner(f"whose stream it is cannot be read: {OWNER_NAME} is no file")
        name = os.read(file, _NAME_MAX_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise NotItsOwner(f"whose stream it is cannot be read: {error.strerror}") from None
    finally:
        os.close(file)
    return check_key_name(name) if name else ""
