"""The messages that the methods of a writer keep, and the faults of wrong calls."""

from collections.abc import Callable
from pathlib import Path

from support.records.recordings import Said
from support.running.spoken import read_recording, read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Message
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

Write = Callable[[WriterMethods], object]


def written(folder: Path, write: Write) -> list[Said]:
    """Return the messages that ``write`` keeps through a strict writer, without start and end."""
    with Telemetry("run", endpoint=None, record=folder, strict=True) as telemetry:
        write(telemetry.writer)
    return read_said(folder)[1:-1]


def one(folder: Path, write: Write, step: int = 7) -> Message:
    """Return the only message that ``write`` keeps, at ``step``."""
    [said] = written(folder, write)
    assert said.step == step
    return said.message


def records(folder: Path, write: Write) -> list[Record]:
    """Return the records that ``write`` keeps through a strict writer, without start and end."""
    with Telemetry("run", endpoint=None, record=folder, strict=True) as telemetry:
        write(telemetry.writer)
    return read_recording(folder)[1:-1]


def kept_with_faults(folder: Path, write: Write, faults: int) -> list[Said]:
    """Return the messages that ``write`` keeps through a writer that is not strict; check the number of faults."""
    with Telemetry("run", endpoint=None, record=folder) as telemetry:
        write(telemetry.writer)
        assert telemetry.faults.total == faults
    return read_said(folder)[1:-1]
