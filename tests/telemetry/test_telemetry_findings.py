"""What is wrong with a run, as a loop learns it: ``findings()`` and ``on_finding``."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.logger.fake_logger import FakeLogger
from support.machine.waiting import wait_until
from support.records.golden import FINDING

from tensorboard_sidecar import Finding, SummaryWriter, Telemetry
from tensorboard_sidecar.protocol.finding import Severity
from tensorboard_sidecar.protocol.messages import Scalars, Text
from tensorboard_sidecar.protocol.wire import Data, Findings, Hello, WireMessage

CLEARED = replace(FINDING, state="cleared")


class TellingLogger(FakeLogger):
    """A logger that tells ``findings`` behind each of its answers to a trainer that asks for findings."""

    def __init__(self) -> None:
        super().__init__()
        self.findings: list[Finding] = [FINDING]
        self.asked = False

    def _hear(self, peer: bytes, message: WireMessage) -> Sequence[WireMessage | bytes]:
        self.asked |= isinstance(message, Hello) and message.findings
        told = [Findings(self.findings)] if self.asked and isinstance(message, Hello | Data) else []
        return [*super()._hear(peer, message), *told]


@pytest.fixture
def logger() -> Iterator[TellingLogger]:
    with TellingLogger() as logger:
        yield logger


def test_a_loop_learns_what_is_wrong_and_when_it_is_over(logger: TellingLogger) -> None:
    with Telemetry("run", endpoint=logger.endpoint, strict=True) as telemetry:
        telemetry.scalars(1, {"loss": 1.0})
        wait_until(lambda: telemetry.findings() == (FINDING,))
        logger.findings = [CLEARED]
        telemetry.scalars(2, {"loss": 1.0})
        wait_until(lambda: telemetry.findings() == (CLEARED,))
    assert telemetry.findings() == (CLEARED,)


def test_a_loop_can_stop_by_its_own_choice(logger: TellingLogger) -> None:
    stop, threads = threading.Event(), list[str]()

    def look(finding: Finding) -> None:
        threads.append(threading.current_thread().name)
        if finding.state == "open":
            stop.set()

    with Telemetry("run", endpoint=logger.endpoint, strict=True, on_finding=look) as telemetry:
        step = 0
        while not stop.wait(0.01):
            step += 1
            telemetry.scalars(step, {"loss": 1.0})
    assert threads == ["telemetry-findings"]


def test_a_restarted_logger_tells_again_and_nothing_opens_twice(logger: TellingLogger) -> None:
    heard: list[Finding] = []
    with Telemetry("run", endpoint=logger.endpoint, strict=True, on_finding=heard.append) as telemetry:
        wait_until(lambda: heard)
        logger.stop()
        telemetry.scalars(1, {"loss": 1.0})
        logger.start()
        wait_until(lambda: logger.count(Hello) >= 2)
        logger.findings = [CLEARED]
        telemetry.scalars(2, {"loss": 1.0})
        wait_until(lambda: heard[1:])
    assert heard == [FINDING, CLEARED]


def test_a_callback_that_raises_is_a_fault_and_training_goes_on(
    logger: TellingLogger, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_finding: Finding) -> None:
        raise ZeroDivisionError("of the user")

    with Telemetry("run", endpoint=logger.endpoint, on_finding=fail) as telemetry:
        wait_until(lambda: telemetry.faults.total == 1)
        telemetry.scalars(1, {"loss": 1.0})
        assert telemetry.health()["telemetry/faults"] == 1.0
    assert "on_finding: ZeroDivisionError: of the user" in caplog.text


def test_a_slow_callback_holds_no_record_up(logger: TellingLogger) -> None:
    begun, go = threading.Event(), threading.Event()

    def wait(_finding: Finding) -> None:
        begun.set()
        go.wait(60)

    with Telemetry("run", endpoint=logger.endpoint, strict=True, on_finding=wait) as telemetry:
        assert begun.wait(20)
        telemetry.scalars(1, {"loss": 1.0})
        wait_until(lambda: telemetry.lag_seconds == 0.0 and telemetry._pipeline.sender.drained)
    go.set()


def test_without_a_logger_there_are_no_findings(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True, on_finding=print) as telemetry:
        telemetry.scalars(1, {"loss": float("nan")})
        assert telemetry.findings() == ()
    assert Telemetry("run", enabled=False).findings() == ()


def test_a_callback_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="on_finding 'stop'; expected a function that takes a Finding"):
        Telemetry("run", endpoint=None, record=tmp_path, on_finding="stop")  # type: ignore[arg-type]


def test_a_writer_learns_what_is_wrong_too(logger: TellingLogger, tmp_path: Path) -> None:
    """Writers on one folder share a telemetry, and each of them has its own callback."""
    heard: dict[str, list[Finding]] = {"one": [], "other": []}
    with SummaryWriter(tmp_path / "run", endpoint=logger.endpoint, on_finding=heard["one"].append) as writer:
        wait_until(lambda: heard["one"])
        with SummaryWriter(tmp_path / "run", endpoint=logger.endpoint, on_finding=heard["other"].append):
            logger.findings = [CLEARED]
            writer.add_scalar("loss", 1.0, 1)
            wait_until(lambda: heard["other"])
        assert writer.findings() == (CLEARED,)
    assert heard == {"one": [FINDING, CLEARED], "other": [CLEARED]}
    assert writer.findings() == (CLEARED,), "also after the close, which opens nothing"


def test_the_example_of_an_early_end_is_in_the_docstring() -> None:
    assert "stop.set()" in (Telemetry.__doc__ or "")


@pytest.mark.parametrize(("severity", "ships"), [("error", True), ("warn", False)])
def test_an_error_that_opens_ships_the_flight_recorder(logger: TellingLogger, severity: Severity, ships: bool) -> None:
    error = replace(FINDING, severity=severity, first_step=7)
    logger.findings = []
    with Telemetry("run", endpoint=logger.endpoint, strict=True, flight_recorder=3) as telemetry:
        for step in range(10):
            telemetry.flight(step, {"loss": 1.0})
        logger.findings = [error]
        telemetry.scalars(10, {"loss": 1.0})
        wait_until(lambda: telemetry.findings() == (error,))
    said = [message for message in logger.messages(next(iter(logger.records))) if isinstance(message, Text | Scalars)]
    reasons = [message.text for message in said if isinstance(message, Text) and message.tag == "flight/reason"]
    assert reasons == ([f"`{error.rule}: {error.tag}`: steps 4 to 10"] if ships else [])
    assert sum("flight/loss" in message.values for message in said if isinstance(message, Scalars)) == (
        7 if ships else 0
    )
