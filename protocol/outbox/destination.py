"""Small files in an outbox that name the destination of the records and the public key of the trainer.

Without these files, a logger that adopts the outbox of a killed trainer could show a run that belongs to another
logger, and records that are meant for a recording only could leave the machine.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.address import absolute_endpoint, is_loopback
from tensorboard_sidecar.protocol.storage.durable import write_file

ENDPOINT_NAME: Final = "endpoint"
RECORD_NAME: Final = "record"
KEY_NAME: Final = "key"
DESTINATION_NAMES: Final = (ENDPOINT_NAME, RECORD_NAME, KEY_NAME)
NO_LOGGER: Final = "none"
_SIZE_MAX_BYTES: Final = 4096
_TCP: Final = re.compile(r"tcp://(.+):([0-9]{1,5})")
_ANY_HOST: Final = {"0.0.0.0", "::", "*"}  # noqa: S104 - compared with a logger's address, not bound


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
    endpoint, record, public_key = (_read(folder / name) for name in DESTINATION_NAMES)
    return Destination(
        _text(endpoint),
        Path(os.fsdecode(record)) if record.startswith(b"/") and b"\0" not in record else None,
        _text(public_key),
    )


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


def _read(path: Path) -> bytes:
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(file, _SIZE_MAX_BYTES)
        finally:
            os.close(file)
    return b""


def _text(value: bytes) -> str:
    with suppress(UnicodeDecodeError):
        return value.decode()
    return ""
