"""Events in folders in the run's folder whose names a message gives: overlays, rows of hyperparameters, and others.

    <run>/loss_train/events.out.tfevents...     the points of one curve of an overlay
    <run>/1700000000.5/events.out.tfevents...   a set of hyperparameters with a folder of its own

TensorBoard shows every folder as a run of its own: curves with one tag in several runs share a chart.

Each event has the id of its record, so that the files in each folder tell how far the folder is. The events of the
folders are durable before the run's own events tell that their records are projected. After a kill, the records behind
the last event of the run are projected again, and a folder takes those events that its files do not hold.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.events.event_file import EventFile
from tensorboard_sidecar.logger_service.events.to_events import BesideEvent

# Folders of one stream: each is a run in TensorBoard's list, which hardly works with more.
FOLDERS_MAX: Final = 1_000
# Folders below a run's folder that are looked into to count those of a stream: a run may lie above many others.
_LOOKED_INTO_MAX: Final = 10_000


class LeftOut(NamedTuple):
    """The number of events of one folder that are not written, and the reason."""

    events: int
    reason: str


def write_beside(run: EventFile, events: Mapping[str, Sequence[BesideEvent]], start_ns: int) -> list[LeftOut]:
    """Write the events by folder, durably, but for those that a folder holds already.

    ``run`` is the event file of the stream that began at ``start_ns``. Returns what is left out because the stream has
    too many folders, or because a file has the name of a folder. Raises OSError.
    """
    left_out, count = [], None
    for folder, several in events.items():
        try:
            file = run.beside(folder)
        except NotADirectoryError:
            left_out.append(LeftOut(len(several), f"{folder}: a file is in the way of the folder"))
            continue
        new = [event for _, identity, event in several if file.last_id is None or identity > file.last_id]
        if new and not file.begun:
            count = run.count_beside(_LOOKED_INTO_MAX) if count is None else count
            if count >= FOLDERS_MAX:
                run.forget(folder)
                left_out.append(LeftOut(len(several), f"{folder}: a stream has {FOLDERS_MAX:,} folders at most"))
                continue
            count += 1
        if new:
            _append(file, new, start_ns)
    return left_out


def _append(file: EventFile, events: Sequence[bytes], start_ns: int) -> None:
    try:
        file.append(events, start_ns, start_ns)
        file.sync()
    finally:
        file.close()
