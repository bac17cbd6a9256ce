"""A peer that speaks the protocol and has no key: ``python -m network.keyless_program ENDPOINT``.

Prints what it is told.
"""

import sys

from support.logger.peer import Peer

from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Hello


def main(endpoint: str) -> int:
    """Say HELLO over and over; return 1 when somebody answers."""
    stream = Stream("intruder")
    with Peer(endpoint, stream) as peer:
        peer.send(Hello(stream.id, stream.run, 0, 0, 1))
        if peer.silent(3.0):
            print("no answer")  # noqa: T201 - a command line
            return 0
        print(peer.receive())  # noqa: T201 - a command line
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
