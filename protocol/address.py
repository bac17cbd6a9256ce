"""Addresses of loggers: the default, whether other machines can reach a host, and paths of sockets."""

from ipaddress import ip_address
from pathlib import Path
from typing import Final

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5555"
"""The endpoint where a logger listens and a trainer connects by default."""

_IPC: Final = "ipc://"


def is_loopback(host: str) -> bool:
    """Tell whether a host, given as a name or as an address without brackets, can be reached from this machine only.

    >>> is_loopback("::1"), is_loopback("0.0.0.0")
    (True, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def absolute_endpoint(endpoint: str) -> str:
    """Return an endpoint that means the same socket in every working folder: ``ipc://`` paths become absolute."""
    path = endpoint.removeprefix(_IPC)
    if path in ("", endpoint) or path.startswith("@"):  # "@name" is an abstract socket: no file, so no folder
        return endpoint
    return _IPC + str(Path(path).absolute())
