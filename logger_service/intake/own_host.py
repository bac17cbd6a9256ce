"""Recognizes the names and addresses of this machine, without DNS: a lookup could block."""

import socket
from contextlib import suppress
from ipaddress import ip_address


def is_own_host(host: str) -> bool:
    """Return whether ``host`` is this machine's host name, or an address (without brackets) of this machine."""
    name = socket.gethostname().lower()
    if host.lower() in (name, name.partition(".")[0]):
        return True
    with suppress(ValueError, OSError):
        family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # the kernel binds only addresses of this machine
        return True
    return False
