"""What strangers send, and what they cost a logger and its projection."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from faults.harness.diary import Returned
from faults.harness.event_ids import read_event_ids
from faults.harness.oracle import Verdict, check
from support.logger.peer import Peer
from support.logger.zmtp import GREETING, READY
from support.machine.waiting import wait_until
from support.records.recordings import every_kind, make_records
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.record import pack_record
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data

# All that a connection has to say before its first message.
HANDSHAKE: Final = GREETING + bytes([4, len(READY)]) + READY


def served(
    logger: LoggerProcess, run: str = "honest", *, records: int = 40, keys: ClientKeys | None = None
) -> Returned:
    """See that an honest peer gets its records acknowledged; return what it was promised."""
    with Peer(logger.endpoint, Stream(run), keys) as peer:
        peer.deliver(records + 1)
        peer.bye()
        return Returned.up_to(peer.stream.id, records)


def draw_everything(logger: LoggerProcess, keys: ClientKeys | None = None) -> Returned:
    """Have a logger draw one of everything, so that it has in memory whatever that takes; return what was promised."""
    frames = [pack_frame(pack_record(record)) for record in make_records(every_kind((1,)))]
    with Peer(logger.endpoint, Stream("everything"), keys) as peer:
        peer.hello()
        peer.send(Data(memoryview(b"".join(frames))))
        peer.wait_acked(len(frames) + 1)
        peer.bye()
    wait_for_events(logger, "everything", len(frames))
    return Returned.up_to(peer.stream.id, len(frames))


def wait_for_events(logger: LoggerProcess, run: str, records: int) -> None:
    """Wait until the projection has come to the last record of a run."""

    def last() -> int:
        ids = [sequence for _, sequence, _ in read_event_ids(logger.logdir / run, [])]
        return max(ids, default=0)

    wait_until(lambda: last() >= records, seconds=120, what=f"{records} records of {run} in event files")


def judge(logger: LoggerProcess, returned: Iterable[Returned]) -> Verdict:
    """Ask the oracle about a logger that has ended; print what it says."""
    assert "event files are not up to date" not in logger.log.read_text()
    verdict = check(returned, logger.recordings, logger.logdir)
    print(verdict)
    return verdict


class Memory:
    """How much memory a logger and its projection had at most, each a process, when this was made; in KiB."""

    def __init__(self, logger: LoggerProcess) -> None:
        assert logger.process is not None
        self._peaks = {pid: _peak_kib(pid) for pid in (logger.process.pid, logger.projection)}

    def more_kib(self) -> list[int]:
        """Return by how much either has grown since, the projection last. Both must still be there."""
        return [_peak_kib(pid) - before_kib for pid, before_kib in self._peaks.items()]


def _peak_kib(pid: int) -> int:
    """Return what a process had at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
