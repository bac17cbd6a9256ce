"""A small file in an outbox that says which logger it is for, so that no other one takes it.

Where several loggers run on a machine, or a trainer sends to another machine, whoever adopts the outbox of a killed
trainer would else show its run in the wrong place.
"""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Final

from protocol.address import is_loopback
from protocol.durable import write_file

DESTINATION: Final = "endpoint"
_SIZE_MAX_BYTES: Final = 4096
_TCP: Final = re.compile(r"tcp://(.+):([0-9]{1,5})")
_ANY_HOST: Final = {"0.0.0.0", "::", "*"}  # noqa: S104 - what a logger may listen on, not what we do


def write_destination(folder: Path, endpoint: str) -> None:
    """Note in an outbox which logger it is for; raise OSError."""
    write_file(folder / DESTINATION, endpoint.encode())


def read_destination(folder: Path) -> str:
    """Return the address of the logger that an outbox is for; nothing where that is not known."""
    with suppress(OSError, UnicodeDecodeError):
        file = os.open(folder / DESTINATION, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.read(file, _SIZE_MAX_BYTES).decode()
        finally:
            os.close(file)
    return ""


def is_for(destination: str, listening: str) -> bool:
    """Tell whether who listens at ``listening`` is reached at ``destination``, as far as addresses tell."""
    if destination == listening:
        return True
    asked, bound = _TCP.fullmatch(destination), _TCP.fullmatch(listening)
    if asked is None or bound is None or asked[2] != bound[2]:
        return False
    hosts = asked[1].strip("[]"), bound[1].strip("[]")
    return hosts[1] in _ANY_HOST or all(map(is_loopback, hosts))


def is_elsewhere(destination: str) -> bool:
    """Tell whether an address leads to another machine, as far as it tells."""
    tcp = _TCP.fullmatch(destination)
    return tcp is not None and not is_loopback(tcp[1].strip("[]"))
