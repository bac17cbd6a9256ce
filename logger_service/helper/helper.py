"""The main loop of a helper: which folders are watched, who waits for what, and when the helper ends.

The helper ends by itself when no client is connected and everything is shown. A folder that is not shown completely has
a file in ``folders/``: a helper that is killed leaves the file, and the next helper goes on there. An outbox that a
killed program left is appended to its recording first.
"""

import logging
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, time_ns
from typing import Final, assert_never

from tensorboard_sidecar.logger_service.helper.server import Server
from tensorboard_sidecar.logger_service.helper.telling import Telling
from tensorboard_sidecar.logger_service.helper.watched import Wanted, Watched
from tensorboard_sidecar.protocol.helper.messages import (
    Findings,
    HelperMessage,
    Report,
    Shown,
    StatusRequest,
    Sync,
    Trouble,
    Watch,
)
from tensorboard_sidecar.protocol.helper.place import FOLDERS_NAME, SOCKET_NAME, note_path, read_note, write_note
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NEVER, OrphanWorker, RecordingDelivery, Sink
from tensorboard_sidecar.protocol.outbox.outbox_files import Destination

IDLE_SECONDS: Final = 10.0
_TURN_SECONDS: Final = 0.2
# A helper looks for the outboxes of killed programs this often: several times before it ends because it is idle.
_LOOK_SECONDS: Final = 2.0
# SIGTERM: how long the helper goes on with what there is to show. The next helper continues.
_STOP_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)


class Notes:
    """The files in ``folders/``: one for each folder that may not be shown completely. Holds the path of the folder."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def add(self, folder: Path) -> None:
        """Note a folder. On failure the next writer in that folder has its recordings shown."""
        with suppress(OSError):
            write_note(self._place, folder)

    def remove(self, folder: Path) -> None:
        """Forget a folder."""
        with suppress(OSError):
            note_path(self._place, folder).unlink(missing_ok=True)

    def read(self) -> Iterator[Path]:
        """Yield the noted folders that still hold recordings; delete the other notes."""
        for note in sorted((self._place / FOLDERS_NAME).iterdir()):
            with suppress(OSError):
                folder = read_note(note)
                if folder is not None and (folder / RECORDING_NAME).is_dir():
                    yield folder
                else:
                    note.unlink()


class Helper:
    """A helper in the locked folder ``place``; ``find_outboxes`` returns outboxes. Raises OSError at the start."""

    def __init__(
        self, place: Path, find_outboxes: Callable[[], list[Path]], idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._server = Server(place / SOCKET_NAME)
        self._notes = Notes(place)
        self._folders: dict[Path, Watched] = {}
        self._folder_of: dict[int, Watched] = {}
        self._telling = Telling()
        sink = Sink(self._finish_recording, _grace_seconds, recording=True)
        self._orphans = OrphanWorker(find_outboxes, sink, _LOOK_SECONDS)
        self._adopting: Path | None = None  # the folder of the outbox that is appended to its recording
        self._idle_seconds = idle_seconds
        self._idle_since_seconds = monotonic()
        for folder in self._notes.read():
            self._watch(folder)

    def run(self, stopping: Callable[[], bool]) -> None:
        """Run until there has been nothing to do for a while, or until ``stopping()``; then show what there is."""
        try:
            busy = False
            while not (stopping() or self._is_idle(monotonic())):
                for client, message in self._server.receive(0.0 if busy else _TURN_SECONDS):
                    self._take(client, message)
                busy = self._work()
            until_seconds = monotonic() + _STOP_SECONDS
            while stopping() and self._work() and monotonic() < until_seconds:
                pass
        finally:
            self._server.close()
            self._orphans.close()
            for watched in self._folders.values():
                watched.close()

    def _work(self) -> bool:
        """Give each folder a turn; return whether there is more to do at once."""
        now_seconds = monotonic()
        busy = self._orphans.step(now_seconds)
        if self._adopting is not None and not self._orphans.delivering:
            self._watch(self._adopting).look_again()
            self._adopting = None
        for watched in list(self._folders.values()):
            for client, answer in watched.turn(now_seconds):
                self._server.send(client, answer)
            self._tell_findings(watched)
            busy |= watched.busy
            if watched.settled and watched.folder != self._adopting:
                watched.close()
                del self._folders[watched.folder]
                if not (watched.trouble or watched.in_use):
                    self._notes.remove(watched.folder)
        return busy

    def _tell_findings(self, watched: Watched) -> None:
        findings = watched.findings()
        for client in watched.clients if findings else ():
            for told in self._telling.due(client, findings):
                self._server.send(client, told)

    def _take(self, client: int, message: HelperMessage | None) -> None:
        match message:
            case None:
                self._leave(client)
                self._orphans.look_soon()  # the client may have been killed
            case Watch(folder, stream):
                self._begin(client, folder)
                self._telling.begin(client, stream)
            case Sync(stream, sequence):
                if (found := self._folder_of.get(client)) is not None:
                    found.want(Wanted(client, stream, sequence))
            case StatusRequest():
                now_seconds = monotonic()
                folders = [watched.report(now_seconds) for watched in self._folders.values()]
                self._server.send(client, Report(os.getpid(), _memory_bytes(), folders))
            case Shown() | Trouble() | Report() | Findings():
                _log.warning("a client sent %s, which only a helper sends", type(message).__name__)
            case _:
                assert_never(message)

    def _begin(self, client: int, folder: bytes) -> None:
        """Watch a folder for a client."""
        self._leave(client)
        if not folder.startswith(b"/") or b"\0" in folder:
            self._server.send(client, Trouble(f"{folder!r:.200} is not the absolute path of a folder"))
            return
        watched = self._watch(Path(os.fsdecode(folder)))
        watched.clients.add(client)
        self._folder_of[client] = watched
        if watched.trouble:
            self._server.send(client, Trouble(watched.trouble))

    def _watch(self, folder: Path) -> Watched:
        folder = Path(os.path.realpath(folder))  # a folder with two names has one lock
        watched = self._folders.get(folder)
        if watched is None:
            watched = self._folders[folder] = Watched(folder)
            self._notes.add(folder)
        return watched

    def _leave(self, client: int) -> None:
        self._telling.forget(client)
        watched = self._folder_of.pop(client, None)
        if watched is not None:
            watched.forget(client)

    def _finish_recording(self, orphan: OrphanedOutbox, _now_seconds: float) -> RecordingDelivery | None:
        record = orphan.destination.record
        if record is None:
            return None
        delivery = RecordingDelivery(orphan, record, wall_time_ns=time_ns())
        self._adopting = record.parent
        return delivery

    def _is_idle(self, now_seconds: float) -> bool:
        if self._folders or len(self._server):
            self._idle_since_seconds = now_seconds
        return now_seconds - self._idle_since_seconds >= self._idle_seconds


def _grace_seconds(destination: Destination) -> float:
    """Take the outboxes of ``SummaryWriter`` at once, and no other outbox.

    Where the folder is not there, a user has deleted the folder, or the program ran in another container.
    """
    record = destination.record
    mine = record is not None and record.name == RECORDING_NAME and os.path.isdir(record.parent)  # noqa: PTH112 - raises nothing
    return 0.0 if mine else NEVER


def _memory_bytes() -> int:
    with suppress(OSError, ValueError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
