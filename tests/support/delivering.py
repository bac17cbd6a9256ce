"""Peers that deliver in the background, whatever happens to their logger."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.peer import Peer


@contextmanager
def delivering(*peers: Peer, records: int = 500, records_a_run: int = 20) -> Iterator[None]:
    """Have a thread a peer deliver records until the block ends, and the last of them are acknowledged.

    They come ``records`` at a time. Raises what a thread raised.
    """
    enough = threading.Event()
    faults: list[BaseException] = []

    def deliver(peer: Peer) -> None:
        try:
            while not enough.is_set():
                peer.deliver(peer.acked_sequence + records, records_a_run=records_a_run)
        except BaseException as fault:  # noqa: BLE001 - raised again in the test's thread
            faults.append(fault)

    threads = [threading.Thread(target=deliver, args=(peer,)) for peer in peers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
