"""Two loggers never write to the same place, nor listen at the same one."""

from pathlib import Path
from subprocess import CompletedProcess

from faults.diary import Returned
from faults.hostile import judge
from support.peer import Peer
from support.programs import LoggerProcess, run_command

from tensorboard_sidecar.protocol.stream import Stream


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
