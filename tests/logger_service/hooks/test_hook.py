"""The thread of a hook: it delivers, goes on after every failure, and ends when it is told to."""

import logging
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest
from support.machine.waiting import wait_until

from tensorboard_sidecar.logger_service.hooks.hook import Hook, HookError
from tensorboard_sidecar.logger_service.hooks.queue import HookCounts, HookLimits, Letter

LIMITS = HookLimits(calls_a_minute=1000, queue_max=10, attempts_max=3, pause_seconds=0.01)
Make = Callable[..., Hook]


class Delivered:
    """Delivers to a list; raises ``error``, or holds until ``go`` is set or the hook stops."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.calls = 0
        self.error: Exception | None = None
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, body: bytes, stopped: threading.Event) -> None:
        self.calls += 1
        self.begun.set()
        while not self.go.wait(0.01):
            if stopped.is_set():
                raise HookError("cut off")
        if self.error is not None:
            raise self.error
        self.bodies.append(body)


@pytest.fixture
def delivered() -> Delivered:
    return Delivered()


@pytest.fixture
def make(delivered: Delivered) -> Iterator[Make]:
    hooks: list[Hook] = []

    def make_hook(bounds: HookLimits = LIMITS) -> Hook:
        hooks.append(Hook("--on_finding", delivered, bounds))
        hooks[-1].start()
        return hooks[-1]

    yield make_hook
    for hook in hooks:
        hook.begin_close()
        hook.close(10.0)
        assert not hook.is_alive()


def letter(name: str, body: bytes = b"") -> Letter:
    return Letter((bytes(16), name, ""), f"finding {name}", body or name.encode())


def test_letters_are_delivered_in_order(make: Make, delivered: Delivered) -> None:
    hook = make()
    for name in "abc":
        hook.add(letter(name))
    wait_until(lambda: delivered.bodies == [b"a", b"b", b"c"])
    wait_until(lambda: hook.counts == HookCounts(delivered=3))


def test_a_call_that_hangs_holds_nobody_up_and_gets_the_newest_states(make: Make, delivered: Delivered) -> None:
    hook = make()
    delivered.go.clear()
    hook.add(letter("a"))
    assert delivered.begun.wait(20)
    for number in range(100):
        hook.add(letter("b", b"%d" % number))
    delivered.go.set()
    wait_until(lambda: delivered.bodies == [b"a", b"99"])
    assert hook.counts.dropped == 99


def test_a_failure_for_a_time_is_tried_again(make: Make, delivered: Delivered) -> None:
    hook = make()
    delivered.error = HookError("busy", retry=True)
    hook.add(letter("a"))
    wait_until(lambda: delivered.calls)
    delivered.error = None
    wait_until(lambda: delivered.bodies == [b"a"])
    wait_until(lambda: hook.counts.delivered)
    assert hook.counts.failed == delivered.calls - 1


@pytest.mark.parametrize(
    "error", [HookError("no such\x1b[2J host", retry=True), HookError("gone"), ZeroDivisionError()]
)
def test_a_failure_is_said_once_a_minute_and_the_next_letters_are_delivered(
    make: Make, delivered: Delivered, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    hook = make()
    delivered.error = error
    hook.add(letter("a"))
    hook.add(letter("b"))
    wait_until(lambda: hook.counts.dropped == 2)
    delivered.error = None
    hook.add(letter("c"))
    wait_until(lambda: delivered.bodies == [b"c"])
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert said.startswith("--on_finding was not told finding a: ")
    assert "\x1b" not in said


def test_more_letters_than_there_is_room_for_are_counted_and_said(
    make: Make, delivered: Delivered, caplog: pytest.LogCaptureFixture
) -> None:
    hook = make()
    delivered.go.clear()
    hook.add(letter("a"))
    assert delivered.begun.wait(20)
    for number in range(15):
        hook.add(letter(str(number)))
    assert hook.counts.dropped == 5
    assert "was not told finding 0: too many findings wait" in caplog.text
    assert "10 findings wait" in repr(hook)
    delivered.go.set()


def test_the_close_delivers_what_waits(make: Make, delivered: Delivered) -> None:
    hook = make(HookLimits(calls_a_minute=1, queue_max=10, attempts_max=3, pause_seconds=1000.0))
    for name in "abc":
        hook.add(letter(name))
    hook.begin_close()
    hook.close(20.0)
    assert delivered.bodies == [b"a", b"b", b"c"]
    assert not hook.is_alive()


def test_the_close_cuts_off_a_call_that_hangs(make: Make, delivered: Delivered) -> None:
    hook = make()
    delivered.go.clear()
    hook.add(letter("a"))
    assert delivered.begun.wait(20)
    hook.begin_close()
    began = monotonic()
    hook.close(0.1)
    wait_until(lambda: not hook.is_alive())
    assert monotonic() - began < 10
    assert hook.counts == HookCounts(failed=1, dropped=1)
