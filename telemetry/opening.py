"""How a ``SummaryWriter`` opens its telemetry, shares it with the other writers on the folder, and closes it."""

import errno
import logging
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.helper.place import LOGGER_VARIABLE, OFF
from tensorboard_sidecar.protocol.messages import SESSION_START, Event
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.outbox.forks import call_in_children
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER
from tensorboard_sidecar.telemetry.ending import Status
from tensorboard_sidecar.telemetry.shipping.told_findings import OnFinding
from tensorboard_sidecar.telemetry.silent import child_is_starting
from tensorboard_sidecar.telemetry.telemetry import Telemetry
from tensorboard_sidecar.telemetry.values.drafts import finished

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shared:
    """The open telemetry of a folder, and the number of writers that use it."""

    telemetry: Telemetry
    users: int = 0


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Folders:
    """The folders that writers of this process have open, and those that were open when this process was forked."""

    lock: threading.RLock = field(default_factory=threading.RLock)  # a signal handler may close a writer meanwhile
    open: dict[Path, _Shared] = field(default_factory=dict)
    inherited: set[Path] = field(default_factory=set)

    def repeated(self, folder: Path) -> bool:
        """Return whether a spawned child repeats a line of its parent, which writes to the folder."""
        repeats = child_is_starting()
        if repeats:
            self.inherited.add(folder)
        return repeats

    def forked(self) -> None:
        """In a forked child: nothing is open, and the parent writes to the folders that were."""
        self.lock = threading.RLock()
        self.inherited |= set(self.open)
        self.open = {}


_FOLDERS: Final = _Folders()
call_in_children(_FOLDERS.forked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The settings of a writer on ``folder``: see ``SummaryWriter``."""

    folder: Path = field(kw_only=False)
    endpoint: str | None
    record: Path | None
    purge_step: int | None
    file_suffix: str
    keep_recording: bool
    close_seconds: float
    strict: bool
    enabled: bool
    on_finding: OnFinding | None = None

    def is_repeated(self) -> bool:
        """Return whether this is a spawned child that repeats a line of its parent while it imports the main module.

        The writer is opened at its first call then, beside the writer of the parent.
        """
        return self.enabled and _FOLDERS.repeated(self.folder)

    def open(self) -> Telemetry:
        """Return the telemetry of the folder, which another writer may have opened. Raises as ``Telemetry``."""
        if not self.enabled:
            return self._make()
        with _FOLDERS.lock:
            shared = _FOLDERS.open.get(self.folder)
            if shared is None:
                shared = _FOLDERS.open[self.folder] = _Shared(self._make())
            elif self.on_finding is not None:
                shared.telemetry.call_on_finding(self.on_finding)
            shared.users += 1
            if self.purge_step is not None:
                start = finished(Event(SESSION_START))
                shared.telemetry.keep(self.purge_step, lambda _: [start], call="SummaryWriter.purge_step")
            return shared.telemetry

    def open_again(self) -> Telemetry:
        """Return the telemetry of the folder as :meth:`open`; what was written before stands."""
        return replace(self, purge_step=None).open()

    def open_silent(self) -> Telemetry:
        """Return a telemetry that keeps nothing and says so, for calls while a spawned child begins."""
        return self._make()

    def close(self, telemetry: Telemetry, status: Status | None) -> None:
        """Close ``telemetry`` if no other writer uses it; in both cases wait until the event files are complete."""
        if self._is_used(telemetry):
            self.show(telemetry)
            return
        telemetry.close(self.close_seconds, status=status)
        if not self.keep_recording and telemetry.is_shown:
            _remove(self.folder / RECORDING_NAME, telemetry)

    def show(self, telemetry: Telemetry) -> None:
        """Wait until the event files hold all records so far, at most ``close_seconds``; warn when they do not."""
        if not telemetry.show(self.close_seconds):
            _log.warning(
                "event files in %s do not hold all values yet; tensorboard-sidecar status says more", self.folder
            )

    def _is_used(self, telemetry: Telemetry) -> bool:
        """Count a writer less; return whether another writer still uses the telemetry."""
        with _FOLDERS.lock:
            shared = _FOLDERS.open.get(self.folder)
            if shared is None or shared.telemetry is not telemetry:
                return False
            shared.users -= 1
            if not shared.users:
                del _FOLDERS.open[self.folder]
            return shared.users > 0

    def _make(self) -> Telemetry:
        logger = self.endpoint or os.environ.get(LOGGER_VARIABLE, "").strip() or None
        writes = self.enabled and not child_is_starting()
        if writes:
            _make_folder(self.folder)
        inherited = self.folder in _FOLDERS.inherited
        make = partial(
            Telemetry,
            strict=self.strict,
            enabled=self.enabled,
            drain_seconds=self.close_seconds,
            rank=os.getpid() % 2**31 if inherited else 0,
            continues=True,
            file_suffix=self.file_suffix,
            plain=True,
            on_finding=self.on_finding,
        )
        off = logger is not None and logger.lower() in OFF
        run = self.folder.name if self.folder.name not in ("", "~") else "run"
        if self.record is not None:
            return make(run, endpoint=NO_LOGGER if off else logger or NO_LOGGER, record=self.record)
        if off:
            if writes:
                _log.info("event files in %s: tensorboard-sidecar replay %s", self.folder, self.folder)
            return make(run, endpoint=NO_LOGGER, record=self.folder / RECORDING_NAME)
        if logger is None:
            return make(run, log_dir=self.folder)
        return make(_run_below(Path.cwd(), self.folder), endpoint=logger)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path without ``..``: a program may change its working folder. Links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps "..", Path.resolve follows links


def _make_folder(folder: Path) -> None:
    """Make a folder that events are written to. Raises NotADirectoryError, PermissionError, OSError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def _run_below(root: Path, folder: Path) -> str:
    """Return the run below the log directory of a logger of the user's own."""
    return str(folder.relative_to(root)) if folder != root and folder.is_relative_to(root) else folder.name or "run"


def _remove(recordings: Path, telemetry: Telemetry) -> None:
    """Delete the recording of a telemetry, and the folders above that are empty then.

    The hidden files of ``recordings`` (a lock, for example) go with the last recording.
    """
    recording = recordings / telemetry.run / telemetry.recording_name
    with suppress(OSError):
        shutil.rmtree(recording)
        recording.parent.rmdir()
        hidden = [path for path in recordings.iterdir() if path.name.startswith(RECORDING_NAME)]
        if len(hidden) == len(list(recordings.iterdir())):
            for path in hidden:
                path.unlink()
            recordings.rmdir()
