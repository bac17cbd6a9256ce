"""A receiver on its own socket, run by a thread."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from support.logger.peer import Peer

from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream


def make_receiver(folder: Path, endpoint: str = "tcp://127.0.0.1:*", *, keys: Path | None = None) -> Receiver:
    """Return a receiver whose journal is in ``folder``."""
    journal = Journal(folder, lambda: 10**18, commit_interval_seconds=0.01, commit_size_bytes=2**20)
    return Receiver(journal, endpoint, streams_max=64, keys=keys)


@contextmanager
def turning(receiver: Receiver) -> Iterator[Receiver]:
    """Run the receiver in a thread until the end of the block; close it then."""
    stop = threading.Event()

    def turn() -> None:
        with closing(receiver):
            while not stop.is_set():
                receiver.turn(0.02)

    thread = threading.Thread(target=turn)
    thread.start()
    try:
        yield receiver
    finally:
        stop.set()
        thread.join()


def served(receiver: Receiver, keys: ClientKeys | None = None) -> bool:
    """Tell whether a correct peer gets its records acknowledged."""
    with Peer(receiver.endpoint, Stream("honest"), keys) as peer:
        peer.deliver(41)
        return peer.acked_sequence == 41
