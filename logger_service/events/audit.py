"""Checks by the ids in the events of a folder that every event is there exactly once."""

from dataclasses import dataclass, field
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from tensorboard_sidecar.logger_service.events.event_file import comes_late, is_row, names_in
from tensorboard_sidecar.logger_service.events.identity import BESIDE_PLACE, EventId, find_id, read_events
from tensorboard_sidecar.logger_service.events.to_events import GAP_RECORDS_TAG
from tensorboard_sidecar.protocol.frame import Damage, End


@dataclass(slots=True)
class Audit:
    """Result for the event files of one folder; ``losses`` are lines about missing, damaged and duplicate events."""

    folder: Path
    files: int = 0
    events: int = 0
    foreign_events: int = 0
    parts: bool = False
    """Whether the folder has the events of some records only."""
    losses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    last_ids: dict[bytes, EventId] = field(default_factory=dict)


def audit(folder: Path) -> Audit:
    """Read every event file of a folder in TensorBoard's order. Raises OSError.

    The events in a folder for late events continue those in the run's own folder. A folder of a set of hyperparameters,
    and every other folder beside the run's events, has the events of some records only: no event is missing there.
    """
    found = Audit(folder, parts=is_row(folder))
    if comes_late(folder):
        found.last_ids = audit(folder.parent).last_ids
    for path in filter(Path.is_file, (folder / name for name in names_in(folder))):
        found.files += 1
        for item in read_events(path):
            if isinstance(item, Damage):
                found.losses.append(f"{path.name} at byte {item.start:,}: {item.reason}")
            elif isinstance(item, End):
                if (left := path.stat().st_size - item.start) > 0:
                    found.notes.append(f"{path.name} ends with {left:,} bytes that are no event: a torn write")
            else:
                _check_event(found, item, path.name)
    return found


def _check_event(found: Audit, event: Event, name: str) -> None:
    found.events += 1
    identity = find_id(event)
    if identity is None:
        found.foreign_events += event.WhichOneof("what") != "file_version"
        return
    last = found.last_ids.get(identity.stream)
    if last is not None and identity <= last:
        found.losses.append(f"{name}: {identity} comes twice or late, after {last}")
        return
    found.last_ids[identity.stream] = identity
    if found.parts or identity.place >= BESIDE_PLACE:
        return
    is_gap = event.WhichOneof("what") == "summary" and event.summary.value[0].tag == GAP_RECORDS_TAG
    found.losses += (f"{name}: {loss}" for loss in _losses_before(identity, last, is_gap=is_gap))


def _losses_before(identity: EventId, last: EventId | None, *, is_gap: bool) -> list[str]:
    """Return lines about the events missing between an event and the previous event of its stream."""
    previous = last.sequence if last is not None else 0
    if identity.sequence == previous and last is not None:
        return [f"events before {identity} are missing"] if identity.place != last.place + 1 else []
    losses = [f"events before {identity} are missing"] if identity.place else []
    if last is not None and last.more:
        losses.append(f"the findings behind {last} are missing")
    if is_gap:
        losses.append(f"gap: records {previous + 1:,} to {identity.sequence:,} of {identity.stream.hex()} were lost")
    elif identity.sequence > previous + 1:
        losses.append(f"no event of records {previous + 1:,} to {identity.sequence - 1:,} of {identity.stream.hex()}")
    return losses
