"""The messages of a telemetry, read from its recording."""

from pathlib import Path

from support.records.recordings import Said

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader


def read_recording(root: Path) -> list[Record]:
    """Return the records of the only recording under ``root``, which must be undamaged."""
    [folder] = {segment.parent for segment in root.rglob("*.segment")}
    reader = RecordingReader(folder)
    records = [record for chunk in iter(reader.read, []) for record in chunk]
    reader.close()
    assert not reader.damages
    assert [record.sequence for record in records[1:]] == [record.next_sequence for record in records[:-1]]
    return records


def read_said(root: Path) -> list[Said]:
    """Return the messages of the only recording under ``root``, each with its step."""
    said = []
    for record in read_recording(root):
        message = decode_message(record)
        assert message is not None
        said.append(Said(record.step, message))
    return said
