"""The power goes while a logger writes: what was acknowledged is there, whatever the disk made of the rest."""

import random
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep
from typing import Final

import pytest
from faults.harness.acknowledged import check_acknowledged
from faults.harness.disk_shim import Plan, install
from faults.harness.effort import rounds
from faults.harness.power_loss import Disk
from faults.harness.struck_logger import PowerLoss, Unlucky, lost
from support.logger.delivering import delivering
from support.logger.peer import Peer
from support.machine.children import fork
from support.machine.waiting import wait_until
from support.records.events import folder_bytes
from support.records.parts import in_parts
from support.records.recordings import Said, every_kind, make_embedding, write_recording
from support.running.programs import LoggerProcess

from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import SESSION_START, Event, UserMessage
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


WHOLE: Final = make_embedding("joint", seed=7)
PARTS: Final = in_parts(make_embedding("in parts", seed=8), [5, 9])
LAST: Final[dict[str, Sequence[UserMessage]]] = {
    "an embedding": [WHOLE],
    "parts of an embedding": PARTS[:2],
    "all parts of an embedding": PARTS,
    "a purge": [WHOLE, *PARTS, Event(SESSION_START)],
}


@pytest.mark.parametrize("last", LAST)
def test_what_is_shown_survives_a_power_loss(tmp_path: Path, last: str) -> None:
    """A helper then says so to a writer, whose ``close()`` returns: events, curves beside, and files of embeddings."""
    said = [*every_kind((1, 2, 3))[:-1], *(Said(4, message) for message in LAST[last])]
    recording, logdir = write_recording(tmp_path / "recordings", said), tmp_path / "log"
    logdir.mkdir()
    disk = Disk(logdir)

    def project() -> None:
        install(Plan(str(logdir), notes=str(tmp_path / "notes")))
        projection = StreamProjection(recording, logdir, ProjectionCounts())
        while projection.advance(1):  # a record
            projection.sync()

    assert fork(project) == 0
    disk.replay(tmp_path / "notes")
    shown = disk.contents()
    assert shown == folder_bytes(logdir)
    assert {"demo/projector_config.pbtxt"} < shown.keys()
    assert disk.after_power_loss(Unlucky()) == shown


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
