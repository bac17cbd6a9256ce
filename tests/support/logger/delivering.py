"""Peers that deliver records in background threads, across crashes of their logger."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from support.logger.peer import Peer


@contextmanager
def delivering(*peers: Peer, records: int = 500, records_a_run: int = 20) -> Iterator[None]:
    """Deliver records in a thread for each peer until the block ends and all sent records are acknowledged.

    Each peer sends ``records`` records at a time. Raises the first error of a thread.
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
