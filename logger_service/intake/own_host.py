"""Which hosts are this machine; nobody is asked about names, so that nothing is waited for."""

import socket
from contextlib import suppress
from ipaddress import ip_address


def is_own_host(host: str) -> bool:
    """Tell whether a host is this machine: by the machine's own name, or an address, without brackets, that it has."""
    name = socket.gethostname().lower()
    if host.lower() in (name, name.partition(".")[0]):
        return True
    with suppress(ValueError, OSError):
        family = socket.AF_INET if ip_address(host).version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))  # the kernel lets nobody have an address of another machine
        return True
    return False
