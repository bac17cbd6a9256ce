"""Who may send: public keys by name, one small file each, so that a person can look and a program can change them.

``KEYS/allowed/NAME`` holds the public key of NAME. The list is read again when its folder changes, and every second in
any case. While it cannot be read, nobody is on it.
"""

import logging
import os
import shlex
import stat
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.limits import ALLOWED_KEYS_MAX
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.storage.durable import sync_file, sync_folder
from tensorboard_sidecar.protocol.storage.key_files import (
    BadKey,
    NoKeyFile,
    check_key_name,
    make_private_folder,
    read_public_key,
)

ALLOWED_NAME: Final = "allowed"
ALLOW_COMMAND: Final = "tensorboard-sidecar keys allow NAME PUBLIC_KEY"
_READ_INTERVAL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class AllowList:
    """The list under ``keys``, as it is now; ``now`` is a steady time in seconds. Nothing of it raises."""

    def __init__(self, keys: Path) -> None:
        self._folder = keys / ALLOWED_NAME
        self._names: dict[str, str] = {}
        self._changed_ns, self._read_at = -1, float("-inf")
        self.failure = "not read yet"

    def __repr__(self) -> str:
        return f"<AllowList of {len(self._names)} keys in {self._folder} {self.failure}>"

    def name_of(self, public_key: str) -> str | None:
        """Return whose key this is, None when it is nobody's that may send."""
        return self._names.get(public_key)

    def refresh(self, now: float) -> None:
        """Read the list again if it is time to, or if its folder changed."""
        try:
            changed_ns = self._folder.stat().st_ctime_ns
            if changed_ns == self._changed_ns and 0 <= now - self._read_at < _READ_INTERVAL_SECONDS:
                return
            self._changed_ns, self._read_at = changed_ns, now
            self._names, complaints = read_allowed(self._folder)
            if not self._names:
                complaints.append(
                    f"nobody is on it; let one in: {ALLOW_COMMAND} --keys {shlex.quote(str(self._folder.parent))}"
                )
            self._say("; ".join(complaints))
        except (OSError, BadKey, TooLarge) as error:
            self._names, self._changed_ns = {}, -1
            self._say(f"nobody is let in: {error}")

    def _say(self, failure: str) -> None:
        """Say what is wrong with the list, once."""
        if failure and failure != self.failure:
            _log.error("the list of allowed keys: %.500s", failure)
        self.failure = failure


def read_allowed(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return names by public key, and a complaint for each file that holds none.

    Raises OSError, BadKey for a folder that others can write, TooLarge for more than ALLOWED_KEYS_MAX keys.
    """
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise BadKey(f"{folder} can be written by others; expected a folder of user {os.geteuid()}: chmod 700 {folder}")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if len(names) > ALLOWED_KEYS_MAX:
        raise TooLarge(f"allowed keys in {folder}", len(names), ALLOWED_KEYS_MAX)
    allowed: dict[str, str] = {}
    complaints = []
    for name in names:
        try:
            allowed.setdefault(read_public_key(folder / check_key_name(name)), name)
        except NoKeyFile:
            continue  # it was revoked in this moment
        except BadKey as error:
            complaints.append(f"left out: {error}")
    return allowed, complaints


def allow(keys: Path, name: str, public_key: str) -> Path:
    """Put a key on the list; return its file. Doing so twice changes nothing.

    Raises BadKey when the name has another key, or the key another name; TooLarge when the list is full; OSError.
    """
    make_private_folder(keys)
    folder = keys / ALLOWED_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    path, (allowed, _) = folder / check_key_name(name), read_allowed(folder)
    held_by = allowed.get(public_key)
    if held_by is not None and held_by != name:
        raise BadKey(f"this key is allowed already, as {held_by}; one trainer has one name")
    if held_by is None and name in allowed.values():
        raise BadKey(f"{name} is allowed with another key; take that one off first: keys revoke {name} --keys {keys}")
    if held_by is None and len(allowed) >= ALLOWED_KEYS_MAX:
        raise TooLarge(f"allowed keys in {folder}", len(allowed) + 1, ALLOWED_KEYS_MAX)
    unfinished = folder / f".{name}.new"
    unfinished.write_text(f"{public_key}\n", "ascii")
    sync_file(unfinished)
    unfinished.replace(path)
    sync_folder(folder)
    return path


def revoke(keys: Path, name: str) -> None:
    """Take a name's key off the list. Raises BadKey when it is not on it, OSError."""
    path = keys / ALLOWED_NAME / check_key_name(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise BadKey(f"{name} is not on the list; see: tensorboard-sidecar keys list --keys {keys}") from None
    sync_folder(path.parent)
