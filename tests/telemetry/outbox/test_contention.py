import threading
from collections.abc import Callable
from time import monotonic

import pytest

from tensorboard_sidecar.telemetry.outbox.contention import Contention

LARGE = 2**20


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def hold_elsewhere(way: Contention) -> None:
    """Let a thread take the right of way, and be gone."""
    in_thread(lambda: way.take(1, LARGE)).join()
    assert way.holder


@pytest.mark.parametrize(
    ("tries", "size_bytes", "taken"),
    [(1, LARGE, True), (1, 100, False), (2, 100, False), (3, 100, True)],
    ids=["large", "small", "twice in vain", "three times in vain"],
)
def test_who_has_it(tries: int, size_bytes: int, *, taken: bool) -> None:
    way = Contention()
    way.take(tries, size_bytes)
    assert way.holder == (threading.get_ident() if taken else 0)
    way.end()
    assert way.holder == 0


def test_others_wait_until_its_end() -> None:
    way = Contention()
    way.take(1, LARGE)
    given = threading.Event()
    thread = in_thread(lambda: (way.give(), given.set()))
    assert not given.wait(0.01)
    way.end()
    thread.join()
    assert given.is_set()


def test_nobody_waits_for_good() -> None:
    """Whoever has it may be interrupted, for ever."""
    way = Contention()
    hold_elsewhere(way)
    way.give()
    assert way.holder == 0


def test_what_interrupts_the_thread_that_has_it_waits_for_nothing() -> None:
    way = Contention()
    way.take(1, 2**40)  # whose patience would be hours
    started = monotonic()
    way.give()
    assert monotonic() - started < 10
    assert way.holder, "it goes on having it"


def test_a_small_record_that_tries_again_takes_it_from_nobody() -> None:
    """It once did, and a large record began segment after segment in vain until the outbox was full."""
    way = Contention()
    hold_elsewhere(way)
    holder = way.holder
    way.take(1, 100)
    way.end()
    assert way.holder == holder


def test_it_says_who_has_it() -> None:
    way = Contention()
    assert repr(way) == "<Contention of nobody>"
    hold_elsewhere(way)
    assert repr(way) == f"<Contention of {way.holder}>"
