"""The health page of a real logger agrees with the logger's state."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.logger.delivering import delivering
from support.logger.peer import Peer, make_record
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess, free_port, run_command

from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data

pytestmark = pytest.mark.system

SECONDS = 60.0


@pytest.fixture
def logger(logger: LoggerProcess) -> LoggerProcess:
    logger.health = f"127.0.0.1:{free_port()}"
    return logger


def ask(logger: LoggerProcess, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection(logger.health, timeout=SECONDS)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def health(logger: LoggerProcess) -> tuple[int, list[str]]:
    """Return status and reasons."""
    status, body = ask(logger, "/healthz")
    return status, json.loads(body)["reasons"]


def wait_for(logger: LoggerProcess, status: int) -> list[str]:
    """Wait for a status; return its reasons."""
    wait_until(lambda: health(logger)[0] == status, seconds=SECONDS, what=f"{status} of /healthz")
    return health(logger)[1]


def metrics(logger: LoggerProcess) -> dict[tuple[str, ...], float]:
    """Return samples by name, without the common prefix, and label values."""
    families = text_string_to_metric_families(ask(logger, "/metrics")[1].decode())
    return {
        (sample.name.removeprefix("tensorboard_sidecar_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_agree_with_what_was_sent(logger: LoggerProcess) -> None:
    logger.start()
    with Peer(logger.endpoint, Stream("team/run")) as peer, Peer(logger.endpoint, Stream("bad")) as bad:
        peer.deliver(1001)
        bad.hello()
        bad.send(Data(memoryview(make_record(1, kind=Kind.MATRIX, body=b"rubbish"))))
        bad.wait_acked(2)
        bad.send_raw(b"rubbish")
        wait_until(lambda: metrics(logger)["projection_records_total",] == 1001.0, seconds=SECONDS)
        wait_until(lambda: metrics(logger)["refused_total",] == 1.0, seconds=SECONDS)
        found = metrics(logger)
    written_bytes = sum(path.stat().st_size for path in logger.recordings.rglob("*.segment"))
    assert found["records_total",] == 1001.0
    assert 0.9 * written_bytes < found["record_bytes_total",] < written_bytes
    assert found["hellos_total",] >= 2.0
    assert found["streams",] == 1.0, "the one that was refused is forgotten"
    assert found["projection_malformed_total",] == 1.0
    assert found["projection_events_total",] >= 1001.0
    assert found["run_lag_records", "team/run"] == found["run_lag_seconds", "team/run"] == 0.0
    assert found["ack_seconds_count",] >= 51.0, "batches of twenty, and one"
    assert found["fsync_seconds_count",] >= 2.0
    assert 0.0 < found["fsync_seconds_sum",] < found["ack_seconds_sum",] + 60.0
    assert found["disk_free_bytes", "recordings"] > 0.0
    assert found["healthy",] == 1.0
    assert health(logger) == (200, [])


def test_a_lag_is_told_while_nothing_is_projected(logger: LoggerProcess) -> None:
    """The projection is frozen; the parent computes the lag from its commits."""
    logger.start()
    with Peer(logger.endpoint, Stream("run")) as peer:
        peer.deliver(11)
        wait_until(lambda: metrics(logger).get(("run_lag_records", "run")) == 0.0, seconds=SECONDS)
        projection = logger.projection
        os.kill(projection, signal.SIGSTOP)
        peer.deliver(111)
        wait_until(lambda: metrics(logger)["run_lag_records", "run"] == 100.0, seconds=SECONDS)
        wait_until(lambda: metrics(logger)["lag_seconds_max",] > 1.0, seconds=SECONDS)
        os.kill(projection, signal.SIGCONT)
        wait_until(lambda: metrics(logger)["run_lag_records", "run"] == 0.0, seconds=SECONDS)


def test_a_logger_that_cannot_draw_yet_is_503(logger: LoggerProcess) -> None:
    """From listening until the projection has started, which takes a second or more."""
    logger.start()
    os.kill(logger.projection, signal.SIGSTOP)
    assert health(logger) in ((503, ["the projection is starting"]), (503, ["the logger is starting"]))
    os.kill(logger.projection, signal.SIGCONT)
    assert wait_for(logger, 200) == []


def test_recordings_that_cannot_be_written_are_503_until_they_can(logger: LoggerProcess) -> None:
    logger.start()
    assert wait_for(logger, 200) == []
    hidden = logger.recordings.rename(logger.recordings.with_name("hidden"))
    (reason,) = wait_for(logger, 503)
    assert reason == f"--recordings {logger.recordings} cannot be written"
    hidden.rename(logger.recordings)
    assert wait_for(logger, 200) == []


def test_a_journal_whose_writes_fail_is_503_until_one_succeeds(logger: LoggerProcess) -> None:
    """For a while, the kernel limits the logger's files to ten bytes."""
    logger.start()
    assert logger.process is not None
    with Peer(logger.endpoint, Stream("full")) as peer:
        peer.deliver(101)
        assert wait_for(logger, 200) == []
        _, hard = resource.prlimit(logger.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(logger.process.pid, resource.RLIMIT_FSIZE, (10, hard))
        with delivering(peer):
            (reason,) = wait_for(logger, 503)
            resource.prlimit(logger.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
            assert wait_for(logger, 200) == []
    assert reason.startswith("the journal cannot be written: ")
    assert metrics(logger)["journal_failures_total",] >= 1.0


def test_a_projection_that_ends_again_and_again_is_503(logger: LoggerProcess) -> None:
    """A single restart is healthy."""
    logger.start()
    wait_for(logger, 200)
    for ended in (1, 2, 3):
        os.kill(logger.projection, signal.SIGKILL)
        wait_until(lambda ended=ended: metrics(logger)["projection_restarts_total",] == ended, seconds=SECONDS)  # type: ignore[misc]
        if ended < 3:
            assert health(logger) == (200, [])
    assert wait_for(logger, 503) == ["the projection ends again and again"]


def test_a_logger_that_hangs_is_not_asked_in_vain(logger: LoggerProcess) -> None:
    """A stopped process answers no probe; the probe times out, and no data is lost."""
    logger.start()
    wait_for(logger, 200)
    assert logger.process is not None
    logger.process.send_signal(signal.SIGSTOP)
    host, _, port = logger.health.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=0.2) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        with pytest.raises(TimeoutError):
            connection.recv(1)
        logger.process.send_signal(signal.SIGCONT)
        connection.settimeout(SECONDS)
        assert connection.recv(12) == b"HTTP/1.0 200"


def test_an_address_that_was_asked_for_and_is_in_use_is_an_error(logger: LoggerProcess, tmp_path: Path) -> None:
    logger.start()
    flags = ("--bind", "tcp://127.0.0.1:*", "--recordings", tmp_path / "other", "--logdir", tmp_path / "logs")
    done = run_command("serve", *flags, "--adopt", "none", "--health", logger.health)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: --health {logger.health}: the address is in use")


def test_the_usual_address_in_use_is_a_warning_and_the_logger_serves(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 9155))
            taken.listen()
        except OSError:  # another process has the port, which is as good
            pass
        command = [
            sys.executable,
            "-m",
            "tensorboard_sidecar",
            "serve",
            "--bind",
            "tcp://127.0.0.1:*",
            "--adopt",
            "none",
        ]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).startswith("listening on "):
                assert line, "it ended"
            process.terminate()
            _, said = process.communicate(timeout=SECONDS)
    assert "there is no health page: --health 127.0.0.1:9155: the address is in use" in said
    assert process.returncode == 0
