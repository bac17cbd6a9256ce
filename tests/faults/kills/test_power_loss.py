"""The power goes while a logger writes: what was acknowledged is there, whatever the disk made of the rest."""

import random
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Final

from faults.harness.acknowledged import check_acknowledged
from faults.harness.effort import rounds
from faults.harness.struck_logger import PowerLoss, lost
from support.logger.delivering import delivering
from support.logger.peer import Peer
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.stream import Stream

LOSSES: Final = rounds(quick=2, full=50)
LOSSES_BEHIND_FAILURES: Final = rounds(quick=1, full=20)
RUNS: Final = ("one", "team/two", "team/three")


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
    power = PowerLoss(logger, tmp_path / "notes", chance, failing_numbers=failing_syncs)
    survive(power, logger, chance, LOSSES_BEHIND_FAILURES)
    assert "Input/output error; nothing is acknowledged until the journal can" in logger.log.read_text()


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
