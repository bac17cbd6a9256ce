"""The command line: what was left behind, and how it is shipped."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.logger.fake_logger import FakeLogger
from support.machine.waiting import wait_until
from support.records.recordings import START_NS, STREAM_ID, make_stream
from support.running.programs import free_port, running_logger
from support.running.spoken import read_recording

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.protocol.codec import decode_message, encode_body
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import Gap, RunStart, Scalars
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import Destination, spill_root, write_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, read_owner
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.wire import Reject
from tensorboard_sidecar.telemetry.outbox.backlog import Storage
from tensorboard_sidecar.telemetry.outbox.outbox import SEGMENT_SIZE_BYTES, Outbox
from tensorboard_sidecar.telemetry.recovery import commands as commands_module
from tensorboard_sidecar.telemetry.recovery.commands import describe_outbox


def make_outbox(folder: Path, run: str = "demo", *, stream_id: bytes = STREAM_ID) -> Outbox:
    outbox = Outbox(folder, make_stream(run, stream_id=stream_id), capacity_bytes=2**22, wall_time_ns=START_NS)
    outbox.append(Kind.RUN_START, 0, START_NS, encode_body(RunStart()))
    for step in range(500):
        outbox.append(Kind.SCALARS, step, START_NS + step, encode_body(Scalars({"loss": float(step)})))
    return outbox


def abandon(folder: Path, run: str = "demo", *, stream_id: bytes = STREAM_ID, unfilled: bool = False) -> None:
    outbox = make_outbox(folder, run, stream_id=stream_id)
    if unfilled:
        outbox.reserve(Kind.SCALARS, 500, START_NS, 100)
    outbox.close(keep=True)


def test_nothing_left_behind_is_said(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    assert main(["drain"]) == 0
    assert capsys.readouterr().out == "nothing is left behind\n" * 2
    assert list(outboxes.iterdir()) == []


def test_status_tells_whose_outbox_holds_what(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    abandon(outboxes / "a-gone", "team/run")
    running = make_outbox(outboxes / "b-running")
    (outboxes / "c-empty").mkdir()
    (outboxes / "c-empty" / OWNER_LOCK).touch()
    assert main(["status"]) == 0
    gone, live, empty = capsys.readouterr().out.splitlines()
    size = f"{SEGMENT_SIZE_BYTES:,} bytes, the oldest of"
    process = f"pid {os.getpid()}"
    assert gone.startswith(f"{outboxes / 'a-gone'}: {process} is gone, run team/run, records 1 to 501, {size}")
    assert gone.endswith(f" seconds ago; ship it with: tensorboard-sidecar drain {outboxes / 'a-gone'}")
    assert live.startswith(f"{outboxes / 'b-running'}: {process} runs, run demo, records 1 to 501, {size}")
    assert live.endswith(" seconds ago")
    assert "unreadable" in empty
    running.close(keep=False)
    assert (outboxes / "a-gone").exists(), "a look changes nothing"


def test_status_and_drain_know_what_lies_on_disk(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backlog = Storage(2**20).make(make_stream(), wall_time_ns=START_NS)
    for step in range(500):
        backlog.outbox.append(Kind.TEXT, step, START_NS, bytes(5000))
        while backlog.step(0.0):
            pass
    assert main(["status"]) == 0
    [live] = capsys.readouterr().out.splitlines()
    in_memory = sum(path.stat().st_size for path in backlog.outbox.folder.glob("*.segment"))
    assert f"runs, run demo, records 1 to 500, {in_memory:,} bytes and {backlog.spilled_bytes:,} in " in live
    backlog.close(keep=True)
    assert main(["status"]) == 0
    assert "is gone" in capsys.readouterr().out
    with FakeLogger() as logger:
        assert main(["drain", "--endpoint", logger.endpoint]) == 0
        assert [record.sequence for record in logger.records[STREAM_ID]] == list(range(1, 501))
    assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["nothing is left behind"]
    assert list(outboxes.iterdir()) == list(spill_root().iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "0 seconds"), (119.9, "119 seconds"), (120, "2 minutes"), (9000, "2 hours"), (3e5, "3 days")],
)
def test_an_age_is_told_in_a_unit_that_people_use(outboxes: Path, seconds: float, age: str) -> None:
    outbox = make_outbox(outboxes / "a")
    made = min(outbox.folder.glob("*.segment")).stat().st_mtime_ns
    line = describe_outbox(outbox.folder, wall_time_ns=made + round(seconds * 1e9))
    assert read_owner(outbox.folder) == (os.getpid(), 0, True)
    assert line.startswith(f"pid {os.getpid()} runs, ")
    assert line.endswith(f"the oldest of {age} ago")
    outbox.close(keep=False)


def test_an_outbox_without_records_is_told_to_have_none(outboxes: Path) -> None:
    outbox = Outbox(outboxes / "a", make_stream(), capacity_bytes=2**22, wall_time_ns=START_NS)
    assert ", no records, " in describe_outbox(outbox.folder, wall_time_ns=START_NS)
    outbox.close(keep=False)


def test_status_of_a_trainer_at_work_does_not_stumble(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its segments come and go while they are looked at."""
    outbox = Outbox(
        outboxes / "live", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS, segment_size_bytes=8192
    )
    done = threading.Event()

    def work() -> None:
        while not done.wait(0.0005):  # a thread that never waits keeps the interpreter for thousands of its records
            outbox.append(Kind.SCALARS, 0, START_NS, bytes(3000))
            outbox.release(outbox.next_sequence)

    worker = threading.Thread(target=work)
    worker.start()
    for _ in range(100):
        assert main(["status"]) == 0
    done.set()
    worker.join()
    outbox.close(keep=False)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 100
    assert all(f": pid {os.getpid()} runs, run demo, " in line for line in lines)


def test_a_drain_ships_deletes_and_tells(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    abandon(outboxes / "a", "first", unfilled=True)
    abandon(outboxes / "b", "second", stream_id=bytes(16))
    with FakeLogger() as logger:
        assert main(["drain", "--endpoint", logger.endpoint]) == 0
        assert len(logger.records) == 2
        records = logger.records[STREAM_ID]
        assert len(logger.records[bytes(16)]) == 501
    assert capsys.readouterr().out.splitlines() == [
        f"{outboxes / 'a'}: run first, 502 records shipped",
        f"{outboxes / 'b'}: run second, 501 records shipped",
    ]
    assert list(outboxes.iterdir()) == []
    assert [record.sequence for record in records] == list(range(1, 503))
    assert decode_message(records[500]) == Scalars({"loss": 499.0})
    assert isinstance(decode_message(records[501]), Gap)


def test_a_drain_goes_on_where_the_journal_ends(outboxes: Path) -> None:
    """What the trainer had shipped before it died is not sent again."""
    abandon(outboxes / "a")
    with FakeLogger(credit_bytes=2000) as logger:
        assert main(["drain", str(outboxes / "a"), "--endpoint", logger.endpoint, "--seconds", "0.2"]) in (0, 1)
        have = logger.next_sequence(STREAM_ID)
        if (outboxes / "a").exists():
            assert main(["drain", str(outboxes / "a"), "--endpoint", logger.endpoint]) == 0
        assert logger.next_sequence(STREAM_ID) == 502 >= have
        assert len(logger.records[STREAM_ID]) == 501


def test_a_drain_leaves_what_nobody_takes(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    abandon(outboxes / "a")
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    assert main(["drain", "--endpoint", endpoint, "--seconds", "0.1"]) == 1
    assert f"left: no logger answered at {endpoint} within 0.1 seconds" in capsys.readouterr().out
    assert (outboxes / "a").exists()
    with FakeLogger(lambda _: [Reject("no such run", retry=False)]) as logger:
        assert main(["drain", "--endpoint", logger.endpoint]) == 1
    assert "left: no such run" in capsys.readouterr().out
    assert (outboxes / "a").exists()


def test_a_drain_brings_each_to_its_own_logger_unless_told_another(
    outboxes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeLogger() as one, FakeLogger() as other:
        for number, endpoint in enumerate((one.endpoint, other.endpoint, "tcp://127.0.0.1:1\n")):
            abandon(outboxes / str(number), stream_id=bytes([number]) * 16)
            write_destination(outboxes / str(number), Destination(endpoint))
        assert main(["drain"]) == 1
        assert (list(one.records), list(other.records)) == ([bytes(16)], [b"\1" * 16])
        assert "left: endpoint 'tcp://127.0.0.1:1\\n'" in capsys.readouterr().out.splitlines()[2]
        assert main(["drain", "--endpoint", other.endpoint]) == 0
        assert list(other.records) == [b"\1" * 16, b"\2" * 16]


def test_a_drain_leaves_a_running_trainer_alone(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running = make_outbox(outboxes / "a")
    assert main(["drain", "--endpoint", "tcp://127.0.0.1:1", "--seconds", "0"]) == 0
    assert "its trainer runs and ships it itself" in capsys.readouterr().out
    running.close(keep=False)


def test_one_unreadable_outbox_does_not_keep_the_others(outboxes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        (outboxes / name).mkdir()
        (outboxes / name / OWNER_LOCK).touch()
        (outboxes / name / f"{1:020d}.segment").write_bytes(b"rubbish")
    abandon(outboxes / "c")
    with FakeLogger() as logger:
        assert main(["drain", "--endpoint", logger.endpoint]) == 1
        assert logger.next_sequence(STREAM_ID) == 502
    said = capsys.readouterr().out
    assert said.count("left, unreadable") == 2
    assert "501 records shipped" in said


def test_an_outbox_that_somebody_ships_just_then_is_not_left(
    outboxes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    abandon(outboxes / "a")
    found = find_outboxes(outboxes)
    monkeypatch.setattr(commands_module, "find_outboxes", lambda *_: found)
    shutil.rmtree(outboxes / "a")
    assert main(["drain", "--endpoint", "tcp://127.0.0.1:1"]) == 0
    assert "shipped meanwhile" in capsys.readouterr().out


def test_an_outbox_that_somebody_was_killed_in_deleting_is_not_left(
    outboxes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    abandon(outboxes / "a")
    for segment in (outboxes / "a").glob("*.segment"):
        segment.unlink()
    assert main(["drain", "--endpoint", "tcp://127.0.0.1:1"]) == 0
    assert "shipped meanwhile" in capsys.readouterr().out
    assert not (outboxes / "a").exists()


def test_one_that_breaks_off_does_not_keep_the_others(
    outboxes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = OrphanedOutbox.read

    def fail(orphan: OrphanedOutbox, sequence: int, size_max_bytes: int) -> object:
        if orphan.folder.name == "a":
            raise OSError(errno.EIO, "Input/output error")
        if orphan.folder.name == "b":
            raise Malformed("what lies there changed meanwhile")
        return read(orphan, sequence, size_max_bytes)

    monkeypatch.setattr(OrphanedOutbox, "read", fail)
    for number, name in enumerate("abc"):
        abandon(outboxes / name, stream_id=bytes([number]) * 16)
    with FakeLogger() as logger:
        assert main(["drain", "--endpoint", logger.endpoint, "--seconds", "2"]) == 1
    first, second, third = capsys.readouterr().out.splitlines()
    assert "left: [Errno 5] Input/output error" in first
    assert "left: " in second
    assert third.endswith("501 records shipped")
    assert [folder.name for folder in find_outboxes(outboxes)] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["drain", "/nowhere/at/all"], "is no folder"),
        (["status", "/etc/passwd"], "is no folder"),
        (["drain", "--endpoint", "localhost"], "expected the logger's address"),
    ],
)
def test_wrong_usage_is_said(
    outboxes: Path, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    abandon(outboxes / "a")
    assert main(arguments) == 2
    assert reason in capsys.readouterr().err
    assert (outboxes / "a").exists()


def test_memory_that_cannot_be_looked_at_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> Path:
        raise PermissionError(errno.EACCES, "not yours")

    monkeypatch.setattr("tensorboard_sidecar.telemetry.recovery.commands.outbox_root", refuse)
    assert main(["status"]) == 2
    assert "not yours" in capsys.readouterr().err


@pytest.mark.system
def test_a_drain_fills_a_real_journal(outboxes: Path, tmp_path: Path) -> None:
    abandon(outboxes / "a", "team/run")
    with running_logger(tmp_path) as logger:
        command = [sys.executable, "-m", "tensorboard_sidecar", "drain", str(outboxes), "--endpoint", logger.endpoint]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "run team/run, 501 records shipped" in done.stdout
        wait_until(lambda: len(read_recording(logger.recordings)) == 501)
    assert list(outboxes.iterdir()) == []
