"""Where a host is: on this machine, or where others may listen in and answer in its name."""

from ipaddress import ip_address
from typing import Final

_LOCAL_NAME: Final = "localhost"


def is_loopback(host: str) -> bool:
    """Tell whether a host, as a name or as an address without brackets, is this machine and reachable from it alone."""
    if host == _LOCAL_NAME:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
