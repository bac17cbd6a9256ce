"""How a ``SummaryWriter`` opens its telemetry, shares it with the other writers on the folder, and closes it."""

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
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER
from tensorboard_sidecar.protocol.run_names import shown_run
from tensorboard_sidecar.telemetry.ending import Status
from tensorboard_sidecar.telemetry.telemetry import Telemetry

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Shared:
    """The open telemetry of a folder, and the number of writers that use it."""

    telemetry: Telemetry
    users: int = 1


@dataclass(slots=True)
class _Folders:
    """The folders that writers of this process have open, and those that were open when this process was forked."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    open: dict[Path, _Shared] = field(default_factory=dict)
    inherited: set[Path] = field(default_factory=set)

    def forked(self) -> None:
        """In a forked child: nothing is open, and the parent writes to the folders that were."""
        self.lock = threading.Lock()
        self.inherited |= set(self.open)
        self.open = {}


_FOLDERS: Final = _Folders()
os.register_at_fork(after_in_child=_FOLDERS.forked)


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

    def open(self) -> Telemetry:
        """Return the telemetry of the folder, which another writer may have opened. Raises as ``Telemetry``."""
        folders = _FOLDERS
        with folders.lock:
            shared = folders.open.get(self.folder) if self.enabled else None
            if shared is not None:
                shared.users += 1
                return shared.telemetry
            telemetry = self._make()
            if self.enabled:
                folders.open[self.folder] = _Shared(telemetry)
            return telemetry

    def open_again(self) -> Telemetry:
        """Return the telemetry of the folder as :meth:`open`; what was written before stands."""
        return replace(self, purge_step=None).open()

    def close(self, telemetry: Telemetry, status: Status | None) -> None:
        """Close ``telemetry`` if no other writer uses it; in both cases wait until the event files are complete."""
        with _FOLDERS.lock:
            shared = _FOLDERS.open.get(self.folder)
            if shared is not None and shared.telemetry is telemetry:
                shared.users -= 1
                if shared.users:
                    self.show(telemetry)
                    return
                del _FOLDERS.open[self.folder]
        telemetry.close(self.close_seconds, status=status)
        if not self.keep_recording and telemetry.is_shown:
            _remove(self.folder / RECORDING_NAME, telemetry)

    def show(self, telemetry: Telemetry) -> None:
        """Wait until the event files hold all records so far; warn when that takes longer than ``close_seconds``."""
        if not telemetry.show(self.close_seconds):
            _log.warning("event files in %s are not complete after %g s", self.folder, self.close_seconds)

    def _make(self) -> Telemetry:
        self.folder.mkdir(parents=True, exist_ok=True)
        logger = self.endpoint or os.environ.get(LOGGER_VARIABLE, "").strip() or None
        inherited = self.folder in _FOLDERS.inherited
        make = partial(
            Telemetry,
            strict=self.strict,
            enabled=self.enabled,
            drain_seconds=self.close_seconds,
            rank=os.getpid() % 2**31 if inherited else 0,
            first_step=max(0, (self.purge_step or 0) - 1),
            continues=self.purge_step is None,
            file_suffix=self.file_suffix,
            plain=True,
        )
        if self.record is not None:
            return make(_run(self.folder), endpoint=logger or NO_LOGGER, record=self.record)
        if logger is None:
            return make(_run(self.folder), log_dir=self.folder)
        if logger == OFF:
            _log.info("event files in %s: tensorboard-sidecar replay %s", self.folder, self.folder)
            return make(_run(self.folder), endpoint=NO_LOGGER, record=self.folder / RECORDING_NAME)
        return make(_run_below(Path.cwd(), self.folder), endpoint=logger)


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return an absolute path without ``..``: a program may change its working folder. Links stay as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps "..", Path.resolve follows links


def _run(folder: Path) -> str:
    """Return the run of a recording: its name matters only where the recording is shown in another folder."""
    return shown_run(folder.name or "run")[0]


def _run_below(root: Path, folder: Path) -> str:
    """Return the run below the log directory of a logger of the user's own."""
    return str(folder.relative_to(root)) if folder != root and folder.is_relative_to(root) else folder.name or "run"


def _remove(recordings: Path, telemetry: Telemetry) -> None:
    """Delete the recording of a telemetry, and the folders above that are empty then."""
    recording = recordings / telemetry.run / telemetry.recording_name
    with suppress(OSError):
        shutil.rmtree(recording)
    for folder in (recording.parent, recordings):
        with suppress(OSError):
            for leftover in folder.glob(".tensorboard-sidecar*"):
                leftover.unlink()
            folder.rmdir()
