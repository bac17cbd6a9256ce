"""Writes down all that passes a network interface: ``python -m network.sniffer_program INTERFACE FILE``."""

import signal
import socket
import sys
from pathlib import Path

_EVERY_PROTOCOL = 0x0003  # ETH_P_ALL


def main(interface: str, file: str) -> int:
    """Sniff; return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL)) as wire,
        Path(file).open("wb", buffering=0) as captured,
    ):
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**24)
        wire.bind((interface, 0))
        print("ready", flush=True)  # noqa: T201 - a command line
        while True:
            captured.write(wire.recv(2**16))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
