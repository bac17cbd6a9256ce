"""The oracle's question where a peer takes the trainer's place: it was promised what was acknowledged."""

from collections.abc import Mapping
from pathlib import Path

from faults.harness.diary import Returned
from faults.harness.oracle import check

from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.stream import Stream


def promised(next_sequences: Mapping[Stream, int]) -> list[Returned]:
    """Return what was promised to peers; ``next_sequences`` is the first number of each that was not acknowledged."""
    return [Returned.up_to(stream.id, following - 1) for stream, following in next_sequences.items()]


def check_acknowledged(next_sequences: Mapping[Stream, int], recordings: Path, logdir: Path) -> None:
    """Bring the event files up to date and ask the oracle; raises AssertionError."""
    failures = [one for one in replay([recordings], logdir) if one.failure]
    assert not failures
    print(check(promised(next_sequences), recordings, logdir))
