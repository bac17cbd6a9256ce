"""How a telemetry ends: closed once, twice, by a with block, by the interpreter, or not at all."""

import logging
import signal
import threading
from pathlib import Path
from time import monotonic
from typing import Final

import pytest
from support.logger.fake_logger import FakeLogger, unpack_records
from support.machine.waiting import wait_until
from support.running.main_programs import MainProgram, run_main
from support.running.programs import free_port
from support.running.spoken import read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.protocol.messages import RunEnd, Scalars
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.telemetry.ending import Status
from tensorboard_sidecar.telemetry.telemetry import DRAIN_SECONDS, UNANSWERED_DRAIN_SECONDS

PROGRAM: Final = """
import os, signal, sys
from pathlib import Path
import torch
from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar import Telemetry
how, memory, record, endpoint = sys.argv[1:]
outbox_files._SHARED_MEMORY = Path(memory)
telemetry = Telemetry("run", endpoint=endpoint or None, record=record or None, drain_seconds=0.3, strict=True)
for step in range(200):
    telemetry.scalars(step, {"loss": float(step)})
telemetry.summaries(200, {"weights/a": torch.ones(9), "weights/b": torch.ones(9)})
match how:
    case "exception":
        raise ValueError("the loop failed")
    case "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    case "os._exit":
        os._exit(3)
    case "fork":
        if not (child := os.fork()):
            sys.exit(5)  # through atexit and the whole finalization, with everything of the parent's in memory
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    case "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
"""


class Ending:
    """A program that logs 200 steps and ends in its own way, without closing its telemetry."""

    def __init__(self, how: str, folder: Path, *, endpoint: str = "") -> None:
        self.memory, self.record = folder / "memory", folder / "record"
        self.memory.mkdir(parents=True)
        program = folder / "program.py"
        program.write_text(PROGRAM)
        record = "" if endpoint else str(self.record)
        self._program = MainProgram(folder / "said", program, how, self.memory, record, endpoint)

    def wait(self) -> tuple[int, str]:
        """Return the exit code and the error output."""
        ended = self._program.wait(60)
        return ended.returncode, ended.stderr

    def outboxes(self) -> list[Path]:
        [root] = self.memory.iterdir()
        return find_outboxes(root)


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ending]:
    """Return all of them, started together."""
    folder = tmp_path_factory.mktemp("endings")
    started = {
        how: Ending(how, folder / how) for how in ("end", "exception", "interrupt", "fork", "os._exit", "sigterm")
    }
    started["no logger"] = Ending("end", folder / "no logger", endpoint=f"tcp://127.0.0.1:{free_port()}")
    return started


@pytest.mark.system
@pytest.mark.parametrize(
    ("how", "code", "status"),
    [
        ("end", 0, "exited"),
        ("exception", 1, "failed"),
        ("interrupt", -signal.SIGINT, "interrupted"),
        ("fork", 0, "exited"),
    ],
)
def test_the_interpreter_closes_what_was_left_open_and_tells_how_it_ended(
    endings: dict[str, Ending], how: str, code: int, status: str
) -> None:
    assert endings[how].wait()[0] == code
    said = [said.message for said in read_said(endings[how].record)]
    assert said[1:-2] == [Scalars({"loss": float(step)}) for step in range(200)]
    assert said[-1] == RunEnd(status)  # type: ignore[arg-type]
    assert endings[how].outboxes() == []


@pytest.mark.system
def test_an_exit_without_a_logger_is_bounded_and_says_how_to_finish(endings: dict[str, Ending]) -> None:
    code, errors = endings["no logger"].wait()
    assert code == 0
    [outbox] = endings["no logger"].outboxes()
    assert f"tensorboard-sidecar drain {outbox} --endpoint tcp://127.0.0.1:" in errors
    assert len(errors.splitlines()) == 1
    with FakeLogger() as logger:
        assert main(["drain", str(outbox), "--endpoint", logger.endpoint]) == 0
        [stream] = logger.records
        assert len(logger.messages(stream)) == 203
        assert logger.messages(stream)[-1] == RunEnd("exited")
    assert endings["no logger"].outboxes() == []


@pytest.mark.system
@pytest.mark.parametrize(("how", "code"), [("os._exit", 3), ("sigterm", -signal.SIGTERM)])
def test_a_process_that_is_gone_at_once_leaves_everything_in_memory(
    endings: dict[str, Ending], how: str, code: int
) -> None:
    assert endings[how].wait()[0] == code
    [outbox] = endings[how].outboxes()
    orphan = OrphanedOutbox(outbox)
    run = orphan.read(1, 2**20)
    assert run is not None
    assert len(unpack_records(run.frames)) == orphan.next_sequence - 1 == 202
    orphan.close(keep=False)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "completed"),
        (ValueError(), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(), "completed"),
        (SystemExit(0), "completed"),
        (SystemExit(3), "failed"),
        (SystemExit("no data"), "failed"),
    ],
    ids=repr,
)
def test_a_with_block_tells_how_it_ended(tmp_path: Path, error: BaseException | None, status: str) -> None:
    def train() -> None:
        with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
            telemetry.scalars(3, {"a": 1.0})
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)):
            train()
    assert read_said(tmp_path)[-1] == (3, RunEnd(status))  # type: ignore[arg-type]


def test_the_end_says_how_many_calls_were_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        for step in range(3):
            telemetry.writer.add_figure("f", None, step)  # type: ignore[arg-type]
    assert len(caplog.records) == 2
    assert "run run: 3 calls or values were not kept" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("step", [-(2**53) - 1, 2**53 + 1, 10**20, 1e300])
def test_a_step_out_of_range_does_not_cost_the_end_of_the_run(tmp_path: Path, step: float) -> None:
    """Of a call without a good value, too, whose step is checked by nobody else."""
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    telemetry.scalars(3, {"a": 1.0})
    telemetry.summaries(step, {"a": object()})  # type: ignore[arg-type, dict-item]
    telemetry.audio(step, "a", [object()], sample_rate_hz=8000)  # type: ignore[arg-type, list-item]
    telemetry.close()
    assert telemetry.faults.total == 2
    assert read_said(tmp_path)[-1] == (3, RunEnd("completed"))


def test_closing_again_does_nothing(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        telemetry.close(status="failed")
        telemetry.close(10.0)
        telemetry.writer.close()
    assert [said.message for said in read_said(tmp_path)][1:] == [RunEnd("failed")]


def test_a_wrong_status_is_a_fault_and_closes_all_the_same(tmp_path: Path, outboxes: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    telemetry.close(status="tired")  # type: ignore[arg-type]
    assert telemetry.faults.total == 1
    assert len(read_said(tmp_path)) == 1
    assert list(outboxes.iterdir()) == []


@pytest.mark.parametrize("deadline", [0.0, -1.0, float("nan")])
def test_a_close_without_time_leaves_what_is_not_shipped(
    outboxes: Path, deadline: float, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry("run", endpoint=f"tcp://127.0.0.1:{free_port()}", strict=True)
    before = monotonic()
    telemetry.close(deadline)
    assert monotonic() - before < DRAIN_SECONDS
    [outbox] = find_outboxes(outboxes)
    [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert str(outbox) in record.getMessage()
    OrphanedOutbox(outbox).close(keep=False)


def test_an_interrupt_while_closing_still_says_where_the_rest_is(
    outboxes: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second Ctrl-C of a user who does not want to wait for an absent logger."""
    telemetry = Telemetry("run", endpoint=f"tcp://127.0.0.1:{free_port()}", strict=True)
    sender = telemetry._pipeline.sender

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sender, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            telemetry.close()
    assert "tensorboard-sidecar drain" in caplog.text
    telemetry.close()
    sender.stop(0.0)
    sender.finish()
    telemetry._pipeline.outbox.close(keep=True)
    assert len(find_outboxes(outboxes)) == 1


def test_threads_that_close_at_once_close_once(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    threads = [threading.Thread(target=telemetry.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [said.message for said in read_said(tmp_path)][1:] == [RunEnd("completed")]


def test_a_record_that_returned_while_another_thread_closed_is_kept(tmp_path: Path) -> None:
    """Either the call was too late, which is a fault, or the record is in the recording."""
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    returned = []

    def log() -> None:
        for step in range(10**9):
            telemetry.scalars(step, {"a": 1.0})
            if telemetry.faults.total:
                return
            returned.append(step)

    thread = threading.Thread(target=log)
    thread.start()
    wait_until(lambda: len(returned) > 100)
    telemetry.close()
    thread.join()
    steps = [said.step for said in read_said(tmp_path) if isinstance(said.message, Scalars)]
    assert steps == returned


def test_closed_telemetries_leave_no_threads_files_or_sockets(tmp_path: Path, outboxes: Path) -> None:
    def look() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    def once(number: int) -> None:
        with FakeLogger() as logger:
            Telemetry("run", endpoint=logger.endpoint, record=tmp_path / str(number), strict=True).close()

    once(0)
    before = look()
    for number in range(1, 4):
        once(number)
    assert look() == before
    assert list(outboxes.iterdir()) == []


@pytest.mark.system
def test_telemetries_that_nobody_closed_drain_together(tmp_path: Path) -> None:
    """Three runs of a notebook without a logger: the process waits for all of them within one short deadline."""
    program = """
import sys
from time import monotonic
from pathlib import Path
from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar.telemetry import ending
outbox_files._SHARED_MEMORY = Path(sys.argv[1])
opened = [Telemetry(f"run-{n}", endpoint=sys.argv[2], outbox_bytes=2**22, spill_bytes=0) for n in range(12)]
for one in opened:
    one.scalars(1, {"a": 1.0})
before = monotonic()
ending._close_all()
print(monotonic() - before)
"""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "memory").mkdir()
    ran = run_main(tmp_path / "said", tmp_path / "program.py", tmp_path / "memory", endpoint)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stderr.splitlines()) == 12  # each says how to finish
    assert UNANSWERED_DRAIN_SECONDS <= float(ran.stdout) < 12 * UNANSWERED_DRAIN_SECONDS
    [root] = (tmp_path / "memory").iterdir()
    assert len(find_outboxes(root)) == 12


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError(), "failed"), (KeyboardInterrupt(), "interrupted"), (SystemExit(0), "completed")]
)
def test_a_close_in_a_finally_block_tells_what_ended_the_loop(
    tmp_path: Path, error: BaseException, status: Status
) -> None:
    def train() -> None:
        telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
        try:
            raise error
        finally:
            telemetry.close()

    with pytest.raises(type(error)):
        train()
    assert [said.message for said in read_said(tmp_path)][1:] == [RunEnd(status)]


def test_a_run_that_began_while_an_error_was_handled_is_complete(tmp_path: Path) -> None:
    """A second try in an ``except`` block, with a smaller batch."""

    def train(batch_size: int) -> None:
        if batch_size > 1:
            raise MemoryError
        writer = Telemetry("run", endpoint=None, record=tmp_path, strict=True).writer
        writer.add_scalar("a", 1.0, 3)
        writer.close()

    try:
        train(2)
    except MemoryError:
        train(1)
    assert read_said(tmp_path)[-1].message == RunEnd("completed")
