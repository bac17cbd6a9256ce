"""Events in folders in the run's folder whose names a message gives: overlays, rows of hyperparameters, and others.

    <run>/loss_train/events.out.tfevents...     the points of one curve of an overlay
    <run>/1700000000.5/events.out.tfevents...   a set of hyperparameters with a folder of its own

TensorBoard shows every folder as a run of its own: curves with one tag in several runs share a chart.

Each event has the id of its record, so that the files in each folder tell how far the folder is. The events of the
folders are durable before the run's own events tell that their records are projected. After a kill, the records behind
the last event of the run are projected again, and a folder takes those events that its files do not hold.
"""

from collections.abc import Sequence
from typing import Final

from tensorboard_sidecar.logger_service.events.event_file import EventFile
from tensorboard_sidecar.logger_service.events.to_events import BesideEvent

# Folders of one stream: each is a run in TensorBoard's list, which hardly works with more.
FOLDERS_MAX: Final = 1_000
# Folders below a run's folder that are looked into to count those of a stream: a run may lie above many others.
_LOOKED_INTO_MAX: Final = 10_000


class NotWritten(ValueError):
    """Events for a folder that are left out: the stream has too many folders, or a file has the folder's name."""


def write_beside(run: EventFile, folder: str, events: Sequence[BesideEvent], start_ns: int) -> None:
    """Write the events of one folder, durably, but for those that the folder holds already.

    ``run`` is the event file of the stream that began at ``start_ns``. Raises NotWritten, OSError.
    """
    try:
        file = run.beside(folder)
    except NotADirectoryError:
        raise NotWritten(f"{folder}: a file is in the way of the folder") from None
    new = [event for _, identity, event in events if file.last_id is None or identity > file.last_id]
    if not new:
        return
    if not file.begun and run.count_beside(_LOOKED_INTO_MAX) >= FOLDERS_MAX:
        raise NotWritten(f"{folder}: a stream has {FOLDERS_MAX:,} folders at most")
    try:
        file.sync(names=file.append(new, start_ns, start_ns))
    finally:
        file.close()
