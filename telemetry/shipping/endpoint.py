"""Checks the address of a logger before a socket is opened."""

import re
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.address import is_loopback
from tensorboard_sidecar.protocol.storage.key_files import BadKey, check_private_folder, how_to_get_keys

_TCP: Final = re.compile(r"tcp://(\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+):([0-9]{1,5})")
_IPC: Final = re.compile(r"ipc://[^\0]+")


def check_endpoint(endpoint: str, *, keys: bool = True) -> str:
    """Return ``endpoint`` if a trainer can use this ZeroMQ address; raise ValueError otherwise.

    Without ``keys``, only an address on this machine that other users cannot take over is valid. ZeroMQ itself accepts
    ports above 65,535, an empty host, and transports that do not cross processes.
    """
    if not isinstance(endpoint, str):
        raise ValueError(f"endpoint {endpoint!r}; expected text like tcp://127.0.0.1:5555")  # noqa: TRY004 - a setting
    tcp = _TCP.fullmatch(endpoint)
    if not (tcp and 1 <= int(tcp[2]) <= 65535) and not _IPC.fullmatch(endpoint):
        raise ValueError(
            f"endpoint {endpoint!r}; expected the logger's address, like tcp://127.0.0.1:5555 or ipc:///path/to/socket"
        )
    if tcp and not keys and not is_loopback(tcp[1].strip("[]")):
        raise ValueError(
            f"endpoint {endpoint!r} is not on this machine: others could read what is sent there, or answer in the"
            f" logger's name; a trainer needs keys for that. {how_to_get_keys()}"
        )
    if not (tcp or keys):
        _check_folder(endpoint)
    return endpoint


def _check_folder(endpoint: str) -> None:
    """Raise ValueError when another user could replace the logger's socket."""
    folder = Path(endpoint.removeprefix("ipc://")).parent
    try:
        check_private_folder(folder)
    except BadKey as error:
        raise ValueError(f"endpoint {endpoint!r}: {error}; or make one for the logger: mkdir -m 700 DIR") from None
    except OSError as error:
        raise ValueError(
            f"endpoint {endpoint!r}: {folder}: {error.strerror}; expected ipc://DIR/NAME, and DIR made by:"
            " mkdir -m 700 DIR"
        ) from None
