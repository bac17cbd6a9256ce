"""``serve``: start-up, main loop, shutdown.

The parent process receives and journals; a child process projects. They share files alone, so that a failure of one
does not harm the other. The parent starts a failed child again. When the parent is killed, the child ends too; no
acknowledged record is lost.
"""

import logging
import os
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, time_ns
from types import FrameType
from typing import Final

from tensorboard_sidecar.logger_service.config import HEALTH_ADDRESS, OFF, ServeConfig, parse_health_address
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.logger_service.folders.open_files import raise_open_files_limit
from tensorboard_sidecar.logger_service.hooks.hooks import make_hooks
from tensorboard_sidecar.logger_service.intake.findings_delivery import FindingsDelivery
from tensorboard_sidecar.logger_service.intake.journal import Journal
from tensorboard_sidecar.logger_service.intake.orphan_intake import OrphanIntake
from tensorboard_sidecar.logger_service.intake.receiver import Receiver
from tensorboard_sidecar.logger_service.limits import JOURNAL_FILES_DIVISOR, STREAMS_MAX
from tensorboard_sidecar.logger_service.monitoring.health import HealthPage
from tensorboard_sidecar.logger_service.monitoring.status import Collector, Status
from tensorboard_sidecar.logger_service.precedence import let_trainers_run_first
from tensorboard_sidecar.logger_service.projection.process import Supervisor
from tensorboard_sidecar.protocol.outbox.outbox_files import outbox_root, spill_root
from tensorboard_sidecar.protocol.storage.durable import make_folder, sync_folder

# The longest wait for messages in a turn of the main loop, which also handles signals and supervises the child.
_TURN_SECONDS: Final = 0.2
# The projection of a killed logger ends within moments, unless its disk hangs. The next logger waits this long for it.
_ORPHAN_SECONDS: Final = 20.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The objects of a running logger."""

    receiver: Receiver
    projection: Supervisor
    orphans: OrphanIntake
    findings: FindingsDelivery
    page: HealthPage | None
    collector: Collector


class Service:
    """A logger. ``ready`` is called once, with the endpoint, when trainers can connect."""

    def __init__(self, config: ServeConfig, ready: Callable[[str], None]) -> None:
        self._config, self._ready = config, ready
        self._stopping = False

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises StartupError for settings, folders or addresses that cannot be used."""
        with ExitStack() as stack:
            parts = self._startup(stack)
            self._main_loop(parts)
            self._shutdown(parts)

    def _startup(self, stack: ExitStack) -> _Parts:
        config = self._config
        hooks = make_hooks(*(None if hook == OFF else hook for hook in (config.on_finding, config.on_finding_url)))
        for folder, flag in ((config.recordings, "--recordings"), (config.logdir, "--logdir")):
            _check_writable(folder, flag)
        _sync_above(config.recordings)
        stack.enter_context(folder_lock(config.recordings, "--recordings"))
        lock = stack.enter_context(folder_lock(config.logdir, "--logdir", orphan_seconds=_ORPHAN_SECONDS))
        page = _open_page(config.health)
        if page is not None:
            stack.callback(page.close)
        journal = Journal(
            config.recordings,
            time_ns,
            open_files_max=min(STREAMS_MAX, raise_open_files_limit() // JOURNAL_FILES_DIVISOR),
            disk_reserve_bytes=config.disk_reserve_bytes,
        )
        receiver = Receiver(journal, config.bind, keys=config.keys)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        let_trainers_run_first()
        reserve_bytes = config.disk_reserve_bytes
        projection = Supervisor(config.recordings, config.logdir, disk_reserve_bytes=reserve_bytes, lock=lock)
        stack.callback(projection.kill)
        projection.supervise(monotonic())
        roots = _outbox_roots(config.adopt)
        endpoints = (receiver.endpoint, *config.adopt_for)
        orphans = OrphanIntake(roots, receiver.dispatcher, endpoints, receiver.allowed)
        collector = Collector(config.recordings, journal, receiver, projection, orphans, hooks)
        hooks.start()
        stack.callback(hooks.close)
        self._ready(receiver.endpoint)
        findings = FindingsDelivery(receiver.dispatcher, hooks.take)
        return _Parts(receiver, projection, orphans, findings, page, collector)

    def _main_loop(self, parts: _Parts) -> None:
        busy = False
        while not self._stopping:
            parts.receiver.turn(0.0 if busy else _TURN_SECONDS)
            parts.projection.supervise(monotonic())
            _tell_findings(parts)
            busy = parts.orphans.step(monotonic())
            status = parts.collector.observe(monotonic())
            if parts.page is not None and status is not None:
                parts.page.status = status

    def _shutdown(self, parts: _Parts) -> None:
        counts = parts.receiver.dispatcher.counts
        _log.info("stopping: %s; bringing event files up to date (Ctrl-C again ends at once)", counts)
        if parts.page is not None:
            parts.page.close()
        parts.orphans.close()
        parts.receiver.close()
        if not parts.projection.finish(monotonic(), self._config.drain_seconds):
            _log.warning("event files are not up to date; the next serve or a replay goes on from where they end")

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Stop in order at the first signal; at a later Ctrl-C end at once, which loses no acknowledged record."""
        if self._stopping and number == signal.SIGINT:
            os._exit(128 + number)
        self._stopping = True


def _tell_findings(parts: _Parts) -> None:
    """Tell trainers and hooks what the projection has found. Waits for nobody."""
    for stream_id, finding in parts.projection.take_findings():
        parts.findings.take(stream_id, finding)
    parts.findings.step(monotonic())


def _open_page(health: str | None) -> HealthPage | None:
    """Return the health page at the given address; without one, at HEALTH_ADDRESS, or None if that is taken."""
    if health == OFF:
        return None
    try:
        page = HealthPage(
            *parse_health_address(health or HEALTH_ADDRESS),
            Status(at_seconds=monotonic(), troubles=("the logger is starting",)),
        )
    except StartupError as error:
        if health is not None:
            raise
        _log.warning("there is no health page: %s", error)
        return None
    _log.info("health at http://%s/healthz, metrics at http://%s/metrics", page.address, page.address)
    return page


def _outbox_roots(adopt: str | None) -> list[Path]:
    """Return the folders in which orphaned outboxes are looked for: the given one, or those of this user's trainers."""
    if adopt == OFF:
        return []
    if adopt is not None:
        return [Path(adopt).absolute()]
    roots = []
    for find_root in (outbox_root, spill_root):
        try:
            roots.append(find_root())
        except OSError as error:
            _log.warning("outboxes of ended trainers in one folder are not adopted: %s", error)
    return roots


def _check_writable(folder: Path, flag: str) -> None:
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StartupError(f"{flag} {folder} cannot be written: {error.strerror or error}") from None


def _sync_above(folder: Path) -> None:
    """Make the names of a folder and of the folders above it durable; the process that made them may not have.

    A folder that this user may not open, or whose file system cannot sync folders, was made by somebody else: skip it.
    """
    for path in Path(os.path.realpath(folder)).parents:
        with suppress(OSError):
            sync_folder(path)
