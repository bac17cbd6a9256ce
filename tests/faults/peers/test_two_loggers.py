"""Two loggers never write to the same place, nor listen at the same one."""

import os
import signal
from pathlib import Path
from subprocess import CompletedProcess
from threading import Timer
from time import monotonic

from faults.harness.diary import Returned
from faults.harness.hostile import judge
from support.logger.peer import Peer
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess, run_command

from tensorboard_sidecar.logger_service.folders.logger_lock import LOCK_NAME, folder_lock
from tensorboard_sidecar.logger_service.projection.quarantine import FILE_NAME
from tensorboard_sidecar.protocol.stream import Stream

WAIT_SECONDS = 3.0


def serve_again(logger: LoggerProcess, *flags: str) -> CompletedProcess[str]:
    given = {"--bind": "tcp://127.0.0.1:*", "--recordings": str(logger.recordings), "--logdir": str(logger.logdir)}
    given |= {"--health": "none", "--adopt": "none", **dict(zip(flags[::2], flags[1::2], strict=True))}
    return run_command("serve", *(part for item in given.items() for part in item), seconds=60)


def test_a_second_logger_is_refused_whatever_it_shares(logger: LoggerProcess, tmp_path: Path) -> None:
    logger.start()
    assert logger.process is not None
    pid, elsewhere = logger.process.pid, str(tmp_path / "elsewhere")
    same_recordings = serve_again(logger, "--logdir", elsewhere)
    assert same_recordings.returncode == 2
    assert f"written by another logger (process {pid})" in same_recordings.stderr

    same_logdir = serve_again(logger, "--recordings", elsewhere)
    assert same_logdir.returncode == 2
    assert f"--logdir {logger.logdir} is written by another logger (process {pid})" in same_logdir.stderr

    same_port = serve_again(logger, "--recordings", elsewhere, "--logdir", f"{elsewhere}2", "--bind", logger.endpoint)
    assert same_port.returncode == 2
    assert f"{logger.endpoint}: the address is in use" in same_port.stderr
    assert all(done.stderr.count("\n") == 1 for done in (same_recordings, same_logdir, same_port))

    with Peer(logger.endpoint, Stream("unharmed")) as peer:
        peer.deliver(21)
        assert peer.acked_sequence == 21
    assert logger.stop() == 0
    judge(logger, [Returned.up_to(peer.stream.id, 20)])


def replay_there(logger: LoggerProcess) -> CompletedProcess[str]:
    return run_command("replay", logger.recordings, "--logdir", logger.logdir)


def test_a_log_directory_has_one_lock_which_a_logger_and_its_projection_share(logger: LoggerProcess) -> None:
    """A replay is refused while a logger writes there, also in the pause in which its projection is down."""
    logger.start()
    assert logger.process is not None
    with Peer(logger.endpoint, Stream("shown")) as peer:
        peer.deliver(21)
    wait_until((logger.logdir / "shown").exists, seconds=60, what="events")
    lock = (logger.logdir / LOCK_NAME).stat()
    for process in (logger.process.pid, logger.projection):
        files = [file for file in Path(f"/proc/{process}/fd").iterdir() if file.exists()]
        assert [os.path.samestat(file.stat(), lock) for file in files].count(True) == 1
    names = {path.name for path in logger.logdir.iterdir()}
    assert names - {FILE_NAME} == {LOCK_NAME, "shown"}
    assert f"written by another logger (process {logger.process.pid})" in replay_there(logger).stderr
    os.kill(logger.projection, signal.SIGKILL)
    assert f"written by another logger (process {logger.process.pid})" in replay_there(logger).stderr
    assert logger.stop() == 0
    assert replay_there(logger).returncode == 0


def test_a_logger_is_refused_while_a_replay_writes_there(logger: LoggerProcess) -> None:
    with folder_lock(logger.logdir, "--logdir"):
        refused = serve_again(logger)
    assert refused.returncode == 2
    assert f"--logdir {logger.logdir} is written by another logger (process {os.getpid()})" in refused.stderr


def test_the_projection_of_a_killed_logger_keeps_others_out_until_it_has_ended(logger: LoggerProcess) -> None:
    """It does not notice that its logger is gone: its pipes stay open here. The next logger waits for its end."""
    logger.start()
    assert logger.process is not None
    killed, pipes = logger.process.pid, Path(f"/proc/{logger.projection}/fd")
    with Peer(logger.endpoint, Stream("shown")) as peer:
        peer.deliver(21)
    wait_until((logger.logdir / FILE_NAME).exists, seconds=60, what="a projection at work")
    lifeline, reports = (pipes / "0").open("wb"), (pipes / "1").open("rb")
    with reports, lifeline:
        logger.kill()
        refused = replay_there(logger)
        assert refused.returncode == 2
        assert f"by the projection of a logger that has ended (process {killed})" in refused.stderr
        Timer(WAIT_SECONDS, lifeline.close).start()
        before = monotonic()
        logger.start()
        assert monotonic() - before >= WAIT_SECONDS, "it came up while the projection of the killed one held the lock"
    assert logger.stop() == 0
