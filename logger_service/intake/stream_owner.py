"""The owner of a stream: the key that opened the stream. No other key may continue it, also after a restart.

A small file beside the segments of the stream holds the name of the key. The file is durable before the first record.
Without keys there are no such files, and any peer that knows the id of a stream may continue the stream.
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
    """The stream belongs to another key, or its owner cannot be read."""


def check_owner(folder: Path, name: str, open_as: str) -> None:
    """Raise NotItsOwner when the stream in ``folder`` belongs to another key than ``name``.

    ``open_as`` is the key that has the stream open now, empty when the stream is closed. Without keys ``name`` is
    empty, and any peer may continue the stream.
    """
    owner = (open_as or _read_owner(folder)) if name else ""
    if owner and owner != name:
        raise NotItsOwner(f"the stream belongs to key {owner}, not to {name}; only {owner} may continue the stream")


def note_owner(folder: Path, name: str) -> None:
    """Write the owner of the stream in ``folder``, unless the stream has one; the file is durable on return.

    A stream that began without a key belongs to the first key that continues the stream. Raises OSError, NotItsOwner.
    """
    if name and not _read_owner(folder):
        write_file(folder / OWNER_NAME, name.encode())


def _read_owner(folder: Path) -> str:
    """Return the name of the key that a stream belongs to, empty without an owner. Raises BadKey for no valid name."""
    try:
        file = os.open(folder / OWNER_NAME, _FLAGS)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise NotItsOwner(f"the owner of the stream cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise NotItsOwner(f"the owner of the stream cannot be read: {OWNER_NAME} is no file")
        name = os.read(file, _NAME_MAX_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise NotItsOwner(f"the owner of the stream cannot be read: {error.strerror}") from None
    finally:
        os.close(file)
    return check_key_name(name) if name else ""
