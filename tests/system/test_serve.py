"""``serve`` as a process: kills, stops, full disks, and the files afterwards."""

import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import sleep

import pytest
from support.logger.delivering import delivering
from support.logger.peer import Peer
from support.machine import waiting
from support.records.events import shown_sequences
from support.running.programs import LoggerProcess, run_command

from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.record import Kind, parse_sequence
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import list_segments
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Welcome

pytestmark = pytest.mark.system

DEADLINE_SECONDS = 60.0
KILLS = 10
wait_until = partial(waiting.wait_until, seconds=DEADLINE_SECONDS)


@pytest.fixture
def logger(logger: LoggerProcess) -> LoggerProcess:
    logger.start()
    return logger


def pid_of(logger: LoggerProcess) -> int:
    assert logger.process is not None
    return logger.process.pid


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def folder_of(logger: LoggerProcess, stream: Stream) -> Path:
    return logger.recordings / stream.run / stream.folder_name


def read_journal(logger: LoggerProcess, stream: Stream) -> list[int]:
    """Return all sequence numbers in the journal, as the reader returns them."""
    reader = RecordingReader(folder_of(logger, stream))
    found = []
    while payloads := reader.read_payloads():
        found += [parse_sequence(payload)[1] for payload in payloads]
    reader.close()
    assert not reader.damages
    return found


def count_on_disk(logger: LoggerProcess, stream: Stream) -> Counter[int]:
    """Return how often each sequence number occurs in the segments, counted without the reader."""
    found: Counter[int] = Counter()
    for segment in list_segments(folder_of(logger, stream)):
        for item in read_frames(memoryview(segment.path.read_bytes())):
            if isinstance(item, Frame):
                kind, sequence, _ = parse_sequence(item.payload)
                found[sequence] += kind != Kind.SEGMENT
    return found


def test_the_logger_killed_ten_times_in_mid_stream_loses_and_doubles_nothing(logger: LoggerProcess) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    moments = random.Random(seed)
    with Peer(logger.endpoint, Stream("killed")) as peer:
        with delivering(peer):
            for _ in range(KILLS):
                acked = peer.acked_sequence
                wait_until(lambda acked=acked: peer.acked_sequence > acked)  # type: ignore[misc]
                sleep(moments.uniform(0.0, 0.1))
                logger.kill()
                logger.start()
        peer.bye()
    everything = list(range(1, peer.acked_sequence))
    assert logger.stop() == 0
    assert read_journal(logger, peer.stream) == everything
    on_disk = count_on_disk(logger, peer.stream)
    assert [on_disk[sequence] for sequence in everything] == [1] * len(everything)
    assert shown_sequences(logger.logdir / "killed") == everything
    verified = run_command("verify", logger.recordings, logger.logdir)
    assert verified.returncode == 0, verified.stdout


def test_a_stop_keeps_what_was_acknowledged_and_brings_event_files_up_to_date(logger: LoggerProcess) -> None:
    with Peer(logger.endpoint, Stream("stopped")) as peer:
        peer.deliver(2001)
        assert logger.stop() == 0
    assert read_journal(logger, peer.stream) == list(range(1, 2001))
    assert shown_sequences(logger.logdir / "stopped") == list(range(1, 2001))
    assert "2,000 records" in logger.log.read_text()


def test_the_ready_line_comes_when_trainers_can_connect(tmp_path: Path) -> None:
    """A script may read the port from the line; a pipe does not delay the output."""
    command = [sys.executable, "-m", "tensorboard_sidecar", "serve", "--bind", "tcp://127.0.0.1:*"]
    command += ["--health", "none", "--adopt", "none"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip() for _ in range(5)]
        assert said[2].startswith("to watch     tensorboard --logdir runs_brain_v2 --samples_per_plugin scalars=")
        with Peer(said[4].removeprefix("listening on "), Stream("demo")) as peer:
            peer.deliver(11)
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0
        assert process.stdout.read() == ""


def test_a_logger_that_was_killed_takes_its_projection_with_it(logger: LoggerProcess) -> None:
    projection = logger.projection
    logger.kill()
    wait_until(lambda: not alive(projection))
    logger.start()
    assert logger.stop() == 0


def test_trainers_on_the_same_cores_go_first(logger: LoggerProcess) -> None:
    """Regression: on few cores, their steps had pauses of whole time slices."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    for process in (pid_of(logger), logger.projection):
        assert os.getpriority(os.PRIO_PROCESS, process) == min(ours + 5, 19)


def test_a_projection_that_was_killed_costs_a_restart_and_nothing_else(logger: LoggerProcess) -> None:
    with Peer(logger.endpoint, Stream("demo")) as peer:
        with delivering(peer):
            for _ in range(2):
                projection = logger.projection
                wait_until((logger.logdir / "demo").exists)
                os.kill(projection, signal.SIGKILL)
                wait_until(lambda projection=projection: not alive(projection))  # type: ignore[misc]
                acked = peer.acked_sequence
                wait_until(lambda acked=acked: peer.acked_sequence > acked)  # type: ignore[misc]
        assert logger.stop() == 0
    assert "the projection ended (signal 9)" in logger.log.read_text()
    assert shown_sequences(logger.logdir / "demo") == list(range(1, peer.acked_sequence))
    assert run_command("verify", logger.recordings, logger.logdir).returncode == 0


def test_a_second_interrupt_ends_at_once(logger: LoggerProcess) -> None:
    """The projection is frozen, so that the first interrupt alone would wait for long."""
    projection = logger.projection
    os.kill(projection, signal.SIGSTOP)
    try:
        os.kill(pid_of(logger), signal.SIGINT)
        wait_until(lambda: "stopping" in logger.log.read_text())
        assert alive(pid_of(logger))
        os.kill(pid_of(logger), signal.SIGINT)
        assert logger.process is not None
        assert logger.process.wait(5) == 130
    finally:
        with suppress(ProcessLookupError):
            os.kill(projection, signal.SIGKILL)


def test_while_nothing_can_be_written_nothing_is_acknowledged_and_then_all_goes_on(logger: LoggerProcess) -> None:
    """For a while, the kernel limits the logger's files to ten bytes."""
    with Peer(logger.endpoint, Stream("full")) as peer, Peer(logger.endpoint, Stream("other")) as other:
        peer.deliver(101)
        _, hard = resource.prlimit(pid_of(logger), resource.RLIMIT_FSIZE)
        resource.prlimit(pid_of(logger), resource.RLIMIT_FSIZE, (10, hard))
        with delivering(peer):
            assert other.hello() == Welcome(1, CREDIT_BYTES)
            other.send_records(1, 11)
            assert other.receive() == Ack(1, 0), "no credit, and nothing acknowledged"
            acked = peer.acked_sequence
            assert isinstance(other.hello(), Welcome), "it is served all the same"
            assert peer.acked_sequence == acked
            resource.prlimit(pid_of(logger), resource.RLIMIT_FSIZE, (hard, hard))
            wait_until(lambda: peer.acked_sequence > acked)
        other.deliver(11)
    assert logger.stop() == 0
    assert read_journal(logger, peer.stream) == list(range(1, peer.acked_sequence))
    assert read_journal(logger, other.stream) == list(range(1, 11))
    assert "run other, attempt 0, rank 0: the journal is written again" in logger.log.read_text()
