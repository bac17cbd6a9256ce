"""A folder whose recordings a helper shows: its lock, its projection, and the answers that its clients wait for."""

import errno
import logging
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.folders.logger_lock import FolderInUse, folder_lock
from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection, shows_something
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.helper.messages import FolderReport, Shown, Trouble
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader, beginning_of, find_recordings

# A folder that another process shows, or that cannot be used, is tried again after this time.
_RETRY_SECONDS: Final = 1.0
# The errors of a file system without flock: Lustre and NFS with some settings.
_NO_LOCKS: Final = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
_log = logging.getLogger(__name__)


class Wanted(NamedTuple):
    """A client that waits until the records of ``stream`` before ``sequence`` are shown."""

    client: int
    stream: bytes
    sequence: int


class Watched:
    """Shows the recordings below ``folder/.tensorboard-sidecar`` in ``folder``. ``clients`` are the numbers of clients.

    ``busy``: there is more to show at once. ``in_use``: another process shows the folder, a helper of another batch job
    for example; clients are then answered by what is in the event files. All times are of one monotonic clock. No
    method raises: a ``trouble`` is logged once and told to the clients.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clients: set[int] = set()
        self.trouble = ""
        self.in_use = ""
        self.busy = True
        self._wanted: list[Wanted] = []
        self._resources = ExitStack()
        self._follower: Follower | None = None
        self._try_at_seconds = float("-inf")
        self._behind_since_seconds: float | None = None

    def __repr__(self) -> str:
        return f"<Watched {self.folder}, {len(self.clients)} clients>"

    @property
    def settled(self) -> bool:
        """Whether no client needs the folder and there is nothing to show that can be shown."""
        return not (self.clients or self.busy or self._waits)

    @property
    def _waits(self) -> bool:
        return self._follower is not None and self._follower.waits_for_a_record

    def look_again(self) -> None:
        """Look for records in the next turn before the folder counts as settled."""
        self.busy = True

    def want(self, wanted: Wanted) -> None:
        """Answer a client as soon as its records are shown: the next :meth:`turn` looks at once."""
        self._wanted = [other for other in self._wanted if other[:2] != wanted[:2]] + [wanted]
        self.busy = True

    def forget(self, client: int) -> None:
        """Forget a client that is gone."""
        self.clients.discard(client)
        self._wanted = [wanted for wanted in self._wanted if wanted.client != client]
        self.busy = True

    def turn(self, now_seconds: float) -> list[tuple[int, Shown | Trouble]]:
        """Show some records; return the answers that are due, with the numbers of their clients."""
        if now_seconds < self._try_at_seconds:
            self.busy = False
            return []
        if not (self.clients or (self.folder / RECORDING_NAME).is_dir()):  # deleted, and nobody waits
            self.close()
            self.busy = False
            self.trouble = ""
            return []
        try:
            follower = self._opened()
            self.busy = follower.turn(now_seconds, thorough=bool(self._wanted) or not self.clients)
            answers = [] if not self._wanted else self._answers(follower)
            failures = follower.failures
        except FolderInUse as error:
            return self._wait_for_the_other(str(error), now_seconds)
        except Exception as error:  # noqa: BLE001 - a folder that fails must not cost the other folders
            self.close()
            self.busy = False
            self._try_at_seconds = now_seconds + _RETRY_SECONDS
            return self._tell(str(error) or repr(error), log=True)
        if not (self.busy or self._waits or follower.waits):
            self._behind_since_seconds = None
        elif self._behind_since_seconds is None:
            self._behind_since_seconds = now_seconds
        waits = f"the disk of {self.folder} is nearly full" if follower.waits else ""
        return answers + self._tell(waits or "; ".join(failures[:1]), log=bool(waits))

    def findings(self) -> dict[bytes, list[Finding]]:
        """Return the findings of each stream that is watched at present, by the id of the stream."""
        return dict(self._follower.findings()) if self._follower is not None else {}

    def report(self, now_seconds: float) -> FolderReport:
        """Return the state of the folder for ``status``."""
        since = self._behind_since_seconds
        lag_seconds = 0.0 if since is None else now_seconds - since
        return FolderReport(bytes(self.folder), len(self.clients), lag_seconds, self.trouble or self.in_use)

    def close(self) -> None:
        """Close the files and release the lock; a later turn opens them again."""
        self._follower = None
        self._resources.close()

    def _opened(self) -> Follower:
        recordings = self.folder / RECORDING_NAME
        if not recordings.is_dir():  # the lock would make the folder of a deleted run again
            raise FileNotFoundError(f"{recordings} was moved or deleted")
        if self._follower is None:
            suspects = Quarantine()
            self._lock(recordings)
            suspects.open(recordings)
            self._resources.callback(suspects.close)
            follower = Follower(recordings, self.folder, suspects=suspects)
            self._resources.callback(follower.close)
            self._follower = follower
        self.in_use = ""
        return self._follower

    def _lock(self, recordings: Path) -> None:
        """Take the lock of the folder, where the file system has locks. Raises FolderInUse, OSError."""
        try:
            self._resources.enter_context(folder_lock(recordings, "recordings"))
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _log.warning("%s: no lock: %s; two helpers could write there", recordings, error)

    def _answers(self, follower: Follower) -> list[tuple[int, Shown | Trouble]]:
        positions = dict(follower.positions())
        due = [wanted for wanted in self._wanted if positions.get(wanted.stream, 0) >= wanted.sequence]
        if due:
            follower.sync()
            self._wanted = [wanted for wanted in self._wanted if wanted not in due]
        return [(wanted.client, Shown(wanted.stream, wanted.sequence)) for wanted in due]

    def _wait_for_the_other(self, in_use: str, now_seconds: float) -> list[tuple[int, Shown | Trouble]]:
        """Return the answers that are due by what the other process has written; try to take over a second later."""
        self.close()
        self.busy = False
        self.in_use, self.trouble = printable(in_use), ""
        self._try_at_seconds = now_seconds + _RETRY_SECONDS
        due = []
        for wanted in self._wanted:
            try:
                if _are_shown(self.folder, wanted.stream, wanted.sequence):
                    due.append(wanted)
            except Exception as error:  # noqa: BLE001 - as in turn
                _log.warning("%s: the event files of another process cannot be read: %s", self.folder, error)
        self._wanted = [wanted for wanted in self._wanted if wanted not in due]
        return [(wanted.client, Shown(wanted.stream, wanted.sequence)) for wanted in due]

    def _tell(self, trouble: str, *, log: bool) -> list[tuple[int, Shown | Trouble]]:
        """Tell a new trouble to the clients; an empty text: there is none."""
        trouble = printable(trouble)
        changed, self.trouble = trouble != self.trouble, trouble
        if not (changed and trouble):
            return []
        if log:
            _log.error("%s: %s", self.folder, trouble)
        return [(client, Trouble(trouble)) for client in self.clients]


def _are_shown(folder: Path, stream: bytes, sequence: int) -> bool:
    """Return whether the event files that another process writes hold the records of a stream before ``sequence``.

    Where they do, they are durable. Raises OSError, Malformed.
    """
    for recording, _ in find_recordings(folder / RECORDING_NAME):
        if beginning_of(recording).stream.id == stream:
            if not shows_something(recording):
                return _next_sequence(recording) >= sequence
            projection = StreamProjection(recording, folder, ProjectionCounts())
            projection.sync()
            return projection.next_sequence + 1 >= sequence  # the last record counts as unread
    return False


def _next_sequence(recording: Path) -> int:
    with closing(RecordingReader(recording)) as reader:
        while reader.read_payloads():
            pass
        return reader.next_sequence
