"""The place of a helper's files. Clients with the same key share a helper.

The key covers what must not be shared: another user or group, another folder of outboxes, a container or a step of a
batch job (whose end also ends its processes), and another installation or version of this package.

    <runtime folder>/tensorboard-sidecar-helpers-<uid>/<key>/     mode 0700
        lock         held by the helper while it runs: the truth
        socket       a Unix stream socket, where clients connect
        log          the output of the helper
        folders/     a file for each folder whose recordings are not shown yet; the next helper reads them
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2s
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.outbox.outbox_files import OUTBOX_VARIABLE, private_folder
from tensorboard_sidecar.protocol.version import VERSION

LOGGER_VARIABLE: Final = "TENSORBOARD_SIDECAR_LOGGER"
"""The environment variable with the address of a logger in the place of a helper; ``OFF``: a recording alone."""

OFF: Final = ("off", "none")
LOCK_NAME: Final = "lock"
SOCKET_NAME: Final = "socket"
LOG_NAME: Final = "log"
FOLDERS_NAME: Final = "folders"
# Clients of another number use another helper.
_VERSION: Final = 1
_ROOT_NAME: Final = "tensorboard-sidecar-helpers"
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder inside is private
# sockaddr_un.sun_path has 108 bytes on Linux, the last of them zero; 104 on other systems.
_SOCKET_PATH_MAX_BYTES: Final = 103
_KEY_SIZE_BYTES: Final = 6


def helper_folder() -> Path:
    """Return the folder of the helper for this process; make it with mode 0700.

    Raises PermissionError when the folder belongs to another user or is open to others, OSError.
    """
    key = blake2s(repr(_key()).encode("utf-8", "backslashreplace"), digest_size=_KEY_SIZE_BYTES).hexdigest()
    folder = helper_root() / key
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / FOLDERS_NAME).mkdir(mode=0o700, exist_ok=True)
    return folder


def note_path(place: Path, folder: Path) -> Path:
    """Return the file in ``folders/`` that holds the path of ``folder``, a folder with recordings."""
    return place / FOLDERS_NAME / blake2s(bytes(folder), digest_size=16).hexdigest()


def write_note(place: Path, folder: Path) -> None:
    """Note that ``folder`` may not be shown completely. Raises OSError."""
    note_path(place, folder).write_bytes(bytes(folder))


def read_note(note: Path) -> Path | None:
    """Return the folder that a file in ``folders/`` names; None for a file that names none. Raises OSError."""
    named = note.read_bytes()
    return Path(os.fsdecode(named)) if named.startswith(b"/") and b"\0" not in named else None


def helper_root() -> Path:
    """Return the folder of this user's helpers, of all keys: in XDG_RUNTIME_DIR, else in shared memory.

    Raises OSError.
    """
    failure: OSError | None = None
    for base in _bases():
        longest = base / f"{_ROOT_NAME}-{os.getuid()}" / ("0" * 2 * _KEY_SIZE_BYTES) / SOCKET_NAME
        if os.access(base, os.W_OK | os.X_OK) and len(os.fsencode(longest)) <= _SOCKET_PATH_MAX_BYTES:
            try:
                return private_folder(base, _ROOT_NAME)
            except OSError as error:
                failure = failure or error
    raise failure or FileNotFoundError(f"no folder for the socket of a helper; tried {', '.join(map(str, _bases()))}")


def _bases() -> Iterator[Path]:
    """Yield the folders that may hold the helpers, best first.

    The last needs a lock of ``tempfile``: a child that is forked while another thread holds this lock would wait for it
    for ever. Elsewhere nothing asks for that folder.
    """
    if (given := os.environ.get("XDG_RUNTIME_DIR", "")).startswith("/"):
        yield Path(given)
    yield _SHARED_MEMORY
    yield Path(tempfile.gettempdir())


def _key() -> tuple[object, ...]:
    package = Path(__file__).absolute().parent.parent.parent
    outboxes = os.environ.get(OUTBOX_VARIABLE, "")
    return _VERSION, VERSION, str(package), os.getuid(), os.getgid(), outboxes, _cgroup(), *_namespaces()


def _cgroup() -> bytes:
    """Return the control group of this process: a batch job and a container kill all processes of their own."""
    with suppress(OSError):
        return Path("/proc/self/cgroup").read_bytes()
    return b""


def _namespaces() -> Iterator[int]:
    """Yield the namespaces of paths and of process ids."""
    for name in ("mnt", "pid"):
        with suppress(OSError):
            yield Path(f"/proc/self/ns/{name}").stat().st_ino
