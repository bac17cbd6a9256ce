"""The place of an outbox, the small files in an outbox, and the removal of an outbox.

The outboxes of a user lie in a private folder, in shared memory where possible; spilled segments lie on disk.

Destination files name the logger, the recording and the public key of the trainer. Without these files, a logger that
adopts the outbox of a killed trainer could show a run that belongs to another logger, and records that are meant for a
recording only could leave the machine.

A pointer file names the spill folder: the folder on disk that holds the oldest segments, and an owner's lock, like the
outbox. Both folders together hold the stream. The pointer exists from before the first segment is spilled until the
outbox is deleted. When the spill folder is missing, records are missing, and the outbox must not be delivered as if
complete. A file in the spill folder names the outbox in return. While that outbox exists, the spill folder is not an
outbox by itself.
"""

import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.address import absolute_endpoint, is_loopback
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.flight_ring import RING_NAME
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock
from tensorboard_sidecar.protocol.storage.durable import opened, write_file
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_SUFFIX

OUTBOX_BYTES: Final = 256 * 2**20
OUTBOX_BYTES_MIN: Final = 2**20
SPILL_BYTES: Final = 4 * 2**30
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - Linux's shared memory; the folder inside is private
# On disk, and kept over a restart, unlike /tmp. Clusters keep homes on a slow and small server.
_DISK: Final = Path("/var/tmp")  # noqa: S108 - the folder inside is private
ENDPOINT_NAME: Final = "endpoint"
RECORD_NAME: Final = "record"
KEY_NAME: Final = "key"
DESTINATION_NAMES: Final = (ENDPOINT_NAME, RECORD_NAME, KEY_NAME)
SPILL_POINTER: Final = "spilled"
ORIGIN_POINTER: Final = "spilled_from"
NO_LOGGER: Final = "none"
OUTBOX_VARIABLE: Final = "TENSORBOARD_SIDECAR_OUTBOX_DIR"
"""Environment variable: the folder for outboxes and spilled segments of programs that name no other folder."""
_SIZE_MAX_BYTES: Final = 4096
_NAMES: Final = {SPILL_POINTER, ORIGIN_POINTER, *DESTINATION_NAMES, OWNER_LOCK, RING_NAME}
_SUFFIXES: Final = (SEGMENT_SUFFIX, ".spare", ".new")
_TCP: Final = re.compile(r"tcp://(.+):([0-9]{1,5})")
_ANY_HOST: Final = {"0.0.0.0", "::", "*"}  # noqa: S104 - compared with a logger's address, not bound


def outbox_root(base: Path | None = None) -> Path:
    """Return the folder of this user's outboxes in ``base``; make it with mode 0700.

    The default is the folder that the environment variable TENSORBOARD_SIDECAR_OUTBOX_DIR names, else shared memory.
    Raises PermissionError when the folder belongs to another user or is open to others, OSError.
    """
    return private_folder(base or _given() or _usual(_SHARED_MEMORY), "tensorboard-sidecar")


def spill_root(base: Path | None = None) -> Path:
    """Return the folder of this user's spilled segments in ``base`` (default: /var/tmp), like :func:`outbox_root`."""
    return private_folder(base or _given() or _usual(_DISK), "tensorboard-sidecar-spill")


def check_private(folder: Path) -> None:
    """Raise PermissionError when ``folder`` is a link or is open to other users, OSError when it does not exist."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user; remove it and start again")


def outbox_capacity_bytes(root: Path, wanted_bytes: int = OUTBOX_BYTES) -> int:
    """Return ``wanted_bytes``, or half of the free space if that is less (Docker's shared memory is 64 MB).

    Raises ValueError for less than OUTBOX_BYTES_MIN, OSError when the free space is less.
    """
    if wanted_bytes < OUTBOX_BYTES_MIN:
        raise ValueError(f"an outbox of {wanted_bytes:,} bytes; expected {OUTBOX_BYTES_MIN:,} or more")
    free_bytes = shutil.disk_usage(root).free
    if free_bytes // 2 < OUTBOX_BYTES_MIN:
        raise OSError(
            errno.ENOSPC,
            f"{free_bytes:,} bytes are free for an outbox, {2 * OUTBOX_BYTES_MIN:,} are needed; free some (docker run "
            f"--shm-size makes more), or list the outboxes of earlier runs: tensorboard-sidecar status",
            str(root),
        )
    return min(wanted_bytes, free_bytes // 2)


@dataclass(frozen=True, slots=True)
class Destination:
    """The logger and the recording that records go to.

    ``endpoint`` is the logger's address, NO_LOGGER for no logger, empty for an unknown logger: any logger may take the
    records. ``record`` is the folder of recordings, None for no recording. ``public_key`` is the trainer's, empty
    without keys.
    """

    endpoint: str = ""
    record: Path | None = None
    public_key: str = ""

    @property
    def settled(self) -> bool:
        """Whether neither a logger nor a recording waits for the records."""
        return self.endpoint == NO_LOGGER and self.record is None


def write_destination(folder: Path, destination: Destination) -> None:
    """Write the destination files of an outbox; raise OSError."""
    record = os.fsencode(destination.record) if destination.record is not None else b""
    values = (destination.endpoint.encode(), record, destination.public_key.encode())
    for name, value in zip(DESTINATION_NAMES, values, strict=True):
        if value:
            write_file(folder / name, value)
        else:
            (folder / name).unlink(missing_ok=True)


def read_destination(folder: Path) -> Destination:
    """Return the destination of an outbox. A file that cannot be read counts as missing."""
    found = dict.fromkeys(DESTINATION_NAMES, b"")
    for name in DESTINATION_NAMES:
        with suppress(OSError):
            found[name] = _read(folder / name)
    endpoint, record, public_key = found.values()
    return Destination(_text(endpoint), _path(record), _text(public_key))


def forget_recording(folder: Path) -> None:
    """Mark the recording of an outbox as finished. On failure the recording is checked again later, without harm."""
    with suppress(OSError):
        (folder / RECORD_NAME).unlink(missing_ok=True)


def is_for(destination: str, listening: str, is_own_host: Callable[[str], bool] = is_loopback) -> bool:
    """Return whether the address ``destination`` leads to a logger that listens at ``listening``.

    ``is_own_host`` returns whether a host name or an address is this machine.
    """
    if destination in (listening, absolute_endpoint(listening)):
        return True
    asked, bound = _TCP.fullmatch(destination), _TCP.fullmatch(listening)
    if asked is None or bound is None or asked[2] != bound[2]:
        return False
    asked_host, bound_host = asked[1].strip("[]"), bound[1].strip("[]")
    if bound_host in _ANY_HOST:
        return is_loopback(asked_host) or is_own_host(asked_host)
    return is_loopback(asked_host) and is_loopback(bound_host)


def is_elsewhere(destination: str) -> bool:
    """Return whether an address names a host other than this machine's loopback."""
    tcp = _TCP.fullmatch(destination)
    return tcp is not None and not is_loopback(tcp[1].strip("[]"))


def write_spill_pointer(outbox: Path, spill: Path) -> None:
    """Make ``outbox`` and ``spill`` (absolute paths) name each other, and copy the destination to ``spill``.

    Raises OSError.
    """
    write_destination(spill, read_destination(outbox))
    write_file(spill / ORIGIN_POINTER, os.fsencode(outbox))
    write_file(outbox / SPILL_POINTER, os.fsencode(spill))


def read_spill_pointer(outbox: Path) -> Path | None:
    """Return the spill folder of ``outbox``, None without a pointer.

    Raises Malformed when the pointer holds no absolute path, FileNotFoundError when the spill folder does not exist,
    PermissionError when the spill folder is open to other users.
    """
    spill = _read_path(outbox / SPILL_POINTER)
    if spill is None:
        return None
    if not (spill / OWNER_LOCK).exists():
        raise FileNotFoundError(
            f"records of {outbox} were moved to {spill}, which is not there; bring it back, or give them up by "
            f"deleting {outbox / SPILL_POINTER}"
        )
    check_private(spill)
    return spill


def is_part_of_outbox(spill: Path) -> bool:
    """Return whether ``spill`` is the spill folder of an outbox that still exists."""
    try:
        outbox = _read_path(spill / ORIGIN_POINTER)
        return outbox is not None and _read_path(outbox / SPILL_POINTER) == spill
    except (Malformed, OSError):
        return False


def remove_spill(outbox: Path, spill: OwnerLock) -> None:
    """Delete the spill pointer, then the spill folder: a kill in between leaves two complete outboxes."""
    with suppress(OSError):
        (outbox / SPILL_POINTER).unlink(missing_ok=True)
        remove_outbox(spill)


def remove_outbox(owner: OwnerLock) -> None:
    """Delete the outbox that ``owner`` locks: segments first, then the destination, the lock last.

    After a kill in between, the remains still name their destination. Foreign files, and files that cannot be deleted,
    stay.
    """
    with suppress(OSError), owner.open_folder() as folder:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name in _NAMES or entry.name.endswith(_SUFFIXES)]
        for name in sorted(names, key=lambda name: (name == OWNER_LOCK, not name.endswith(SEGMENT_SUFFIX))):
            with suppress(OSError):
                os.unlink(name, dir_fd=folder)
        owner.folder.rmdir()


def _read_path(pointer: Path) -> Path | None:
    """Return the absolute path in a file, None without the file; raise Malformed, OSError."""
    try:
        named = _read(pointer)
    except FileNotFoundError:
        return None
    path = _path(named)
    if path is None:
        raise Malformed(f"{pointer} holds {named!r:.80}; expected the path of a folder")
    return path


def _read(path: Path) -> bytes:
    with opened(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as file:
        return os.read(file, _SIZE_MAX_BYTES)


def _path(value: bytes) -> Path | None:
    return Path(os.fsdecode(value)) if value.startswith(b"/") and b"\0" not in value else None


def _text(value: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return value.decode()
    return ""


def _given() -> Path | None:
    """Return the folder that the environment names, None where it names none."""
    return Path(os.environ[OUTBOX_VARIABLE]) if os.environ.get(OUTBOX_VARIABLE) else None


def _usual(base: Path) -> Path:
    return base if os.access(base, os.W_OK) else Path(tempfile.gettempdir())


def private_folder(base: Path, name: str) -> Path:
    """Return the folder ``<name>-<user id>`` in ``base``; make it with mode 0700. Raises as :func:`check_private`."""
    folder = base.absolute() / f"{name}-{os.getuid()}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)
    return folder
