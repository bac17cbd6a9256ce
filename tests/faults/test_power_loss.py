"""The power goes while a logger writes: what was acknowledged is there, whatever the disk made of the rest."""

import random
import shutil
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Any, Final

from faults.acknowledged import check_acknowledged
from faults.disk_shim import Plan
from faults.effort import rounds
from faults.oracle import read_recordings
from faults.power_loss import Disk, write_files
from support.delivering import delivering
from support.events import event_files
from support.peer import Peer
from support.programs import LoggerProcess
from support.waiting import wait_until

from logger_service.replay import replay
from protocol.errors import Malformed
from protocol.stream import Stream

LOSSES: Final = rounds(quick=3, full=50)
LOSSES_BEHIND_FAILURES: Final = rounds(quick=1, full=20)
RUNS: Final = ("one", "team/two", "team/three")


class PowerLoss:
    """A logger on a disk that takes notes, and whose power can go."""

    def __init__(self, logger: LoggerProcess, notes: Path, chance: random.Random, **plan: Any) -> None:
        self._logger, self._notes, self._chance = logger, notes, chance
        logger.program = Plan(str(logger.recordings), notes=str(notes), project=False, **plan).command()
        self._disk = Disk(logger.recordings)
        logger.start()

    def strike(self) -> None:
        """Take the power away, and leave the recordings as the disk may have them."""
        self._logger.kill()
        self._disk.replay(self._notes)
        there = read_files(self._logger.recordings)
        told = self._disk.contents()
        assert is_one_call(told, there), (
            f"something writes in another way than the notes tell: {differing(told, there)}"
        )
        replay_what_is_there(self._logger)
        tear_event_files(self._logger.logdir, self._chance)
        shutil.rmtree(self._logger.recordings)
        write_files(self._logger.recordings, self._disk.after_power_loss(self._chance))

    def restore(self) -> None:
        """Give the power back."""
        self._notes.unlink()
        self._disk = Disk(self._logger.recordings)
        self._logger.start()


def differing(told: dict[str, bytes], there: dict[str, bytes]) -> list[str]:
    """Return the files that are not as the notes tell."""
    return [path for path in told.keys() | there.keys() if told.get(path) != there.get(path)]


def is_one_call(told: dict[str, bytes], there: dict[str, bytes]) -> bool:
    """Tell whether what differs, if anything, is a call that the kill separated from its note."""
    match differing(told, there):
        case []:
            return True
        case [path]:  # written, cut, made or deleted
            shorter, longer = sorted((told.get(path, b""), there.get(path, b"")), key=len)
            return longer.startswith(shorter)
        case [one, other]:  # renamed
            return any(
                old not in there and told.get(old) == there.get(new) for old, new in ((one, other), (other, one))
            )
    return False


def read_files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def replay_what_is_there(logger: LoggerProcess) -> None:
    """Have the projection be ahead of what is durable."""
    if any(logger.recordings.rglob("*.segment")):
        replay([logger.recordings], logger.logdir)


def tear_event_files(logdir: Path, chance: random.Random) -> None:
    """Event files are never synced: the newest of a run may lose any part of its end."""
    for run in RUNS:
        for newest in event_files(logdir / run)[-1:]:
            with newest.open("r+b") as file:
                file.truncate(chance.randint(0, newest.stat().st_size))


def lost(logger: LoggerProcess, acked: dict[Stream, int]) -> dict[str, set[int]]:
    """Return by run what was acknowledged and is not in the recordings."""
    found = read_recordings(logger.recordings, [])
    return {
        stream.run: missing
        for stream, following in acked.items()
        if (missing := set(range(1, following)) - (found[stream.id].replayed if stream.id in found else set()))
    }


def peers_of(logger: LoggerProcess) -> list[Peer]:
    return [Peer(logger.endpoint, Stream(run)) for run in RUNS]


def wait_for_progress(peers: list[Peer]) -> None:
    """Wait until every peer has delivered something more: holes that the last power loss tore are filled by then."""
    goals = [peer.acked_sequence + 1 for peer in peers]
    wait_until(lambda: all(peer.acked_sequence >= goal for peer, goal in zip(peers, goals, strict=True)))


def test_what_was_acknowledged_survives_every_power_loss(
    logger: LoggerProcess, tmp_path: Path, chance: random.Random
) -> None:
    survive(PowerLoss(logger, tmp_path / "notes", chance), logger, chance, LOSSES)


def test_what_was_acknowledged_survives_a_power_loss_behind_syncs_that_failed(
    logger: LoggerProcess, tmp_path: Path, chance: random.Random
) -> None:
    """A second sync of the same file would succeed, and have nothing on disk: the kernel has dropped it."""
    failing_syncs = (*chance.sample(range(2, 8), 2), *chance.sample(range(8, 20), 4))
    print(f"syncs {failing_syncs} fail")
    power = PowerLoss(logger, tmp_path / "notes", chance, failing_syncs=failing_syncs)
    survive(power, logger, chance, LOSSES_BEHIND_FAILURES)
    assert "Input/output error; nothing is acknowledged until it can" in logger.log.read_text()


def survive(power: PowerLoss, logger: LoggerProcess, chance: random.Random, losses: int) -> None:
    """Have peers deliver while the power goes and comes; ask the oracle each time, and at the end."""
    peers = peers_of(logger)
    with delivering(*peers, records_a_run=10):
        for _ in range(losses):
            wait_for_progress(peers)
            sleep(chance.uniform(0.0, 0.3))
            power.strike()
            assert lost(logger, {peer.stream: peer.acked_sequence for peer in peers}) == {}
            power.restore()
    for peer in peers:
        peer.close()
    assert logger.stop() == 0
    check_acknowledged({peer.stream: peer.acked_sequence for peer in peers}, logger.recordings, logger.logdir)


def test_where_a_disk_lies_about_its_syncs_this_test_notices(
    logger: LoggerProcess, tmp_path: Path, chance: random.Random
) -> None:
    """Syncs that do nothing are as good as none: a logger that acknowledged before them would be found out."""
    power = PowerLoss(logger, tmp_path / "notes", chance, lying_sync=True)
    peers = peers_of(logger)
    for peer in peers:
        peer.deliver(1001)
        peer.close()
    power.strike()
    with suppress(Malformed):  # of a recording whose very head is gone
        assert lost(logger, {peer.stream: peer.acked_sequence for peer in peers})
