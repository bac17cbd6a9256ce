"""Small files in an outbox that say where what it holds is to go, so that nobody else takes it, and whose it is.

Where several loggers run on a machine, or a trainer sends to another machine, whoever adopts the outbox of a killed
trainer would else show its run in the wrong place; what was only to be recorded would leave the machine.
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
_ANY_HOST: Final = {"0.0.0.0", "::", "*"}  # noqa: S104 - what a logger may listen on, not what we do


@dataclass(frozen=True, slots=True)
class Destination:
    """To which logger records are to go, and below which folder they are to be recorded; to both, where both are given.

    ``endpoint`` is the logger's address, NO_LOGGER where it goes to none, empty where that is not known: any may have
    it. ``public_key`` is the trainer's own, empty where it has none.
    """

    endpoint: str = ""
    record: Path | None = None
    public_key: str = ""

    @property
    def settled(self) -> bool:
        """Tell whether nobody waits for it any more."""
        return self.endpoint == NO_LOGGER and self.record is None


def write_destination(folder: Path, destination: Destination) -> None:
    """Note in an outbox where it is to go; raise OSError."""
    record = os.fsencode(destination.record) if destination.record is not None else b""
    values = (destination.endpoint.encode(), record, destination.public_key.encode())
    for name, value in zip(DESTINATION_NAMES, values, strict=True):
        if value:
            write_file(folder / name, value)
        else:
            (folder / name).unlink(missing_ok=True)


def read_destination(folder: Path) -> Destination:
    """Return where an outbox is to go; what cannot be read is not known."""
    endpoint, record, public_key = (_read(folder / name) for name in DESTINATION_NAMES)
    return Destination(
        _text(endpoint),
        Path(os.fsdecode(record)) if record.startswith(b"/") and b"\0" not in record else None,
        _text(public_key),
    )


def forget_recording(folder: Path) -> None:
    """Note in an outbox that its recording is finished; where that fails, whoever finishes it again finds it whole."""
    with suppress(OSError):
        (folder / RECORD_NAME).unlink(missing_ok=True)


def is_for(destination: str, listening: str, is_own_host: Callable[[str], bool] = is_loopback) -> bool:
    """Tell whether who listens at ``listening`` is reached at ``destination``, as far as addresses tell.

    ``is_own_host`` tells of a host, a name or an address, whether it is this machine.
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
    """Tell whether an address leads to another machine, as far as it tells."""
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
