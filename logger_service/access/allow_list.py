"""The list of allowed keys: one small file per public key, readable by people and changed by programs.

``KEYS/allowed/NAME`` holds the public key of NAME. A running logger reads the list again when the folder changes, and
once a second in any case. Fails closed: while the list cannot be read, no key is allowed.
"""

import logging
import os
import shlex
import stat
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.limits import ALLOWED_KEYS_MAX
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.storage import key_files
from tensorboard_sidecar.protocol.storage.durable import sync_file, sync_folder
from tensorboard_sidecar.protocol.storage.key_files import BadKey, check_key_name

ALLOWED_NAME: Final = "allowed"
ALLOW_COMMAND: Final = "tensorboard-sidecar keys allow NAME PUBLIC_KEY"
_READ_INTERVAL_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class AllowList:
    """The current list in ``keys``. No method raises; ``failure`` says why the list is empty or incomplete."""

    def __init__(self, keys: Path) -> None:
        self._folder = keys / ALLOWED_NAME
        self._names: dict[str, str] = {}
        self._changed_ns, self._read_at = -1, float("-inf")
        self.failure = "not read yet"

    def name_of(self, public_key: str) -> str | None:
        """Return the name of an allowed key, None for any other key."""
        return self._names.get(public_key)

    def refresh(self, now_seconds: float) -> None:
        """Read the list again when the folder changed, and once a second; ``now_seconds`` is a monotonic time."""
        try:
            changed_ns = self._folder.stat().st_ctime_ns
            if changed_ns == self._changed_ns and 0 <= now_seconds - self._read_at < _READ_INTERVAL_SECONDS:
                return
            self._changed_ns, self._read_at = changed_ns, now_seconds
            self._names, complaints = read_allowed(self._folder)
            if not self._names:
                complaints.append(
                    f"the list is empty; allow a key: {ALLOW_COMMAND} --keys {shlex.quote(str(self._folder.parent))}"
                )
            self._log_failure("; ".join(complaints))
        except (OSError, BadKey, TooLarge) as error:
            self._names, self._changed_ns = {}, -1
            self._log_failure(f"no key is allowed: {error}")

    def _log_failure(self, failure: str) -> None:
        """Log a fault of the list once, until the fault changes."""
        if failure and failure != self.failure:
            _log.error("the list of allowed keys: %.500s", failure)
        self.failure = failure


def read_allowed(folder: Path) -> tuple[dict[str, str], list[str]]:
    """Return the names by public key, and a complaint for each file without a valid key.

    Raises OSError, BadKey for a folder that other users can write, TooLarge for more than ALLOWED_KEYS_MAX keys.
    """
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise BadKey(
            f"{folder} can be written by other users; expected a folder of user {os.geteuid()}: chmod 700 {folder}"
        )
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if len(names) > ALLOWED_KEYS_MAX:
        raise TooLarge(f"allowed keys in {folder}", len(names), ALLOWED_KEYS_MAX)
    allowed: dict[str, str] = {}
    complaints = []
    for name in names:
        try:
            allowed.setdefault(key_files.read_public_key(folder / check_key_name(name)), name)
        except key_files.NoKeyFile:
            continue  # revoked since the folder was listed
        except BadKey as error:
            complaints.append(f"left out: {error}")
    return allowed, complaints


def allow(keys: Path, name: str, public_key: str) -> Path:
    """Add a key to the list and return its file; adding the same key again changes nothing.

    Raises BadKey when the name has another key or the key has another name, TooLarge when the list is full, OSError.
    """
    key_files.make_private_folder(keys)
    folder = keys / ALLOWED_NAME
    folder.mkdir(mode=0o700, exist_ok=True)
    path, (allowed, _) = folder / check_key_name(name), read_allowed(folder)
    held_by = allowed.get(public_key)
    if held_by is not None and held_by != name:
        raise BadKey(f"this key is allowed already, as {held_by}; a trainer has one name")
    if held_by is None and name in allowed.values():
        raise BadKey(f"{name} is allowed with another key; revoke that key first: keys revoke {name} --keys {keys}")
    if held_by is None and len(allowed) >= ALLOWED_KEYS_MAX:
        raise TooLarge(f"allowed keys in {folder}", len(allowed) + 1, ALLOWED_KEYS_MAX)
    unfinished = folder / f".{name}.new"
    unfinished.write_text(f"{public_key}\n", "ascii")
    sync_file(unfinished)
    unfinished.replace(path)
    sync_folder(folder)
    return path


def revoke(keys: Path, name: str) -> None:
    """Remove the key of a name from the list. Raises BadKey when the name is not on the list, OSError."""
    path = keys / ALLOWED_NAME / check_key_name(name)
    try:
        path.unlink()
    except FileNotFoundError:
        raise BadKey(f"{name} is not on the list; see: tensorboard-sidecar keys list --keys {keys}") from None
    sync_folder(path.parent)
