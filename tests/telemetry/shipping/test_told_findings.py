"""Findings that a trainer is told: known in order, bounded, and given to callbacks that may be slow or raise."""

import logging
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.machine.waiting import wait_until
from support.records.golden import FINDING

from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import FINDINGS_KNOWN_MAX
from tensorboard_sidecar.telemetry.shipping.told_findings import ToldFindings

CLEARED = replace(FINDING, state="cleared")
ERROR = replace(FINDING, rule="not-finite", severity="error")


class Heard:
    """A callback that records what it is called with; it may hold until ``go`` is set."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.threads: set[int] = set()
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, finding: Finding) -> None:
        self.begun.set()
        assert self.go.wait(20)
        self.threads.add(threading.get_ident())
        self.findings.append(finding)


def of(number: int) -> Finding:
    return replace(FINDING, tag=f"tag {number}")


def test_open_findings_come_first_and_the_gravest_of_them() -> None:
    told = ToldFindings()
    assert told.known == ()
    cleared = replace(ERROR, tag="a", state="cleared")
    told.take([cleared, FINDING, ERROR])
    assert told.known == (ERROR, FINDING, cleared)
    told.close()


def test_the_newest_state_replaces_the_one_before() -> None:
    told = ToldFindings()
    told.take([FINDING])
    before = told.known
    told.take([CLEARED])
    assert (before, told.known) == ((FINDING,), (CLEARED,))
    told.close()


@given(st.lists(st.tuples(st.integers(0, 2 * FINDINGS_KNOWN_MAX), st.booleans()), max_size=20))
def test_whatever_comes_the_number_is_bounded_and_no_open_finding_is_forgotten(changes: list[tuple[int, bool]]) -> None:
    told = ToldFindings()
    told.take(of(number) for number in range(FINDINGS_KNOWN_MAX - 2))
    newest = {finding.tag: finding for finding in told.known}
    for number, is_open in changes:
        finding = of(number) if is_open else replace(of(number), state="cleared")
        told.take([finding])
        if finding in told.known:
            newest[finding.tag] = finding
    assert len(told.known) <= FINDINGS_KNOWN_MAX
    assert all(finding in told.known for finding in newest.values() if finding.state == "open")
    told.close()


def test_a_callback_hears_of_openings_and_clearings_once_on_its_own_thread() -> None:
    """A logger tells findings again after a new connection."""
    heard, told = Heard(), ToldFindings()
    told.call(heard)
    told.take([FINDING])
    told.take([replace(FINDING, count=9)])
    wait_until(lambda: heard.findings == [FINDING])
    told.take([CLEARED])
    told.take([CLEARED])
    wait_until(lambda: heard.findings[1:] == [CLEARED])
    told.take([FINDING])
    told.close()
    assert heard.findings == [FINDING, CLEARED, FINDING]
    assert threading.get_ident() not in heard.threads
    assert len(heard.threads) == 1


def test_what_opens_and_clears_before_it_is_told_is_heard_as_cleared() -> None:
    """A NaN of a single step: the next record clears it within a second."""
    heard, told = Heard(), ToldFindings()
    told.call(heard)
    again = replace(CLEARED, count=CLEARED.count + 1)
    for finding in (CLEARED, CLEARED, again, again):
        told.take([finding])
        wait_until(lambda: heard.findings[-1].count == finding.count)  # noqa: B023 - the wait ends within the turn
    told.close()
    assert heard.findings == [CLEARED, again]


def test_without_a_callback_there_is_no_thread() -> None:
    before = threading.active_count()
    told = ToldFindings()
    told.take([FINDING])
    assert threading.active_count() == before
    told.close()


def test_a_slow_callback_holds_nothing_up_and_gets_the_newest_states() -> None:
    heard, errors = Heard(), list[Exception]()
    told = ToldFindings(errors.append)
    told.call(heard)
    heard.go.clear()
    told.take([ERROR])
    assert heard.begun.wait(20)
    told.take([FINDING])
    told.take([CLEARED])
    told.take([FINDING])
    heard.go.set()
    told.close()
    assert heard.findings == [ERROR, FINDING]
    assert errors == []


def test_more_findings_than_may_wait_for_a_callback_are_a_fault() -> None:
    heard, errors = Heard(), list[Exception]()
    told = ToldFindings(errors.append)
    told.call(heard)
    heard.go.clear()
    told.take([ERROR])
    assert heard.begun.wait(20)
    told.take([replace(ERROR, state="cleared")])  # has room for the next
    told.take(of(number) for number in range(FINDINGS_KNOWN_MAX))
    told.take(replace(of(number), state="cleared") for number in range(FINDINGS_KNOWN_MAX))
    told.take([replace(FINDING, tag="the last")])
    heard.go.set()
    told.close()
    assert heard.findings[-1].tag == "the last"
    assert len(heard.findings) <= FINDINGS_KNOWN_MAX + 1
    assert [type(error) for error in errors] == [RuntimeError] * len(errors)
    assert errors


def test_errors_of_a_callback_are_noted_and_the_next_callbacks_are_called() -> None:
    heard, errors = Heard(), list[Exception]()
    told = ToldFindings(errors.append)

    def fail(_finding: Finding) -> None:
        raise ZeroDivisionError

    told.call(fail)
    told.call(lambda _: sys.exit(3))
    told.call(heard)
    told.take([FINDING, ERROR])
    told.close()
    assert heard.findings == [FINDING, ERROR]
    assert [type(error) for error in errors] == [ZeroDivisionError, RuntimeError] * 2
    assert "set a flag" in str(errors[1])


def test_a_strict_note_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()

    def note(error: Exception) -> None:
        raise error

    def fail(_finding: Finding) -> None:
        raise ZeroDivisionError("of the user")

    told = ToldFindings(note)
    told.call(fail)
    told.call(heard)
    told.take([FINDING])
    told.close()
    assert heard.findings == [FINDING]
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "on_finding failed" in record.message
    assert record.exc_info is not None


def test_a_callback_may_close() -> None:
    told = ToldFindings()
    closed = threading.Event()
    told.call(lambda _: (told.close(), closed.set()))
    told.take([FINDING])
    assert closed.wait(20)
    told.close()


def test_after_the_close_nothing_is_called() -> None:
    heard, told = Heard(), ToldFindings()
    told.call(heard)
    told.close()
    told.take([FINDING])
    assert told.known == (FINDING,)
    assert heard.findings == []


def test_a_callback_that_never_returns_holds_the_close_up_for_a_moment_only() -> None:
    heard, told = Heard(), ToldFindings()
    told.call(heard)
    heard.go.clear()
    told.take([FINDING])
    assert heard.begun.wait(20)
    told.close()
    assert heard.findings == []
    heard.go.set()
    wait_until(lambda: heard.findings)


def test_a_thread_that_cannot_start_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    errors: list[Exception] = []
    told = ToldFindings(errors.append)
    told.call(print)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        told.take([FINDING])
    assert [str(error) for error in errors] == ["can't start new thread"]
    told.close()
