"""Where a host is: on this machine, or where others may listen in and answer in its name; and where a socket lies."""

from ipaddress import ip_address
from pathlib import Path
from typing import Final

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5555"
"""Where a logger listens, and a trainer looks for one, unless told otherwise."""

_LOCAL_NAME: Final = "localhost"
_IPC: Final = "ipc://"


def is_loopback(host: str) -> bool:
    """Tell whether a host, as a name or as an address without brackets, is this machine and reachable from it alone."""
    if host == _LOCAL_NAME:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def absolute_endpoint(endpoint: str) -> str:
    """Return an address that leads to the same socket from any working folder."""
    path = endpoint.removeprefix(_IPC)
    if path in ("", endpoint) or path.startswith("@"):  # a socket without a file, which has a name of its own
        return endpoint
    return _IPC + str(Path(path).absolute())
