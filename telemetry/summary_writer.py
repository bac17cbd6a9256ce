"""``SummaryWriter(log_dir)``: a script changes the line that imports its writer, and nothing else.

The values go to an outbox in memory, then to a recording in ``<log_dir>/.tensorboard-sidecar``. A helper process, which
is started beside the first writer and shared by all, makes the event files in ``log_dir`` from the recording.
"""

import os
import re
import socket
import threading
from time import localtime, strftime
from typing import Final, Never, cast

from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.names import check_step
from tensorboard_sidecar.protocol.outbox.forks import call_in_children
from tensorboard_sidecar.telemetry.calls import Faults
from tensorboard_sidecar.telemetry.ending import Status, status_after
from tensorboard_sidecar.telemetry.opening import Opening, absolute
from tensorboard_sidecar.telemetry.shipping.told_findings import OnFinding
from tensorboard_sidecar.telemetry.telemetry import Telemetry
from tensorboard_sidecar.telemetry.values.python_values import seconds, whole
from tensorboard_sidecar.telemetry.writer.base import OpensAgain
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
CLOSE_SECONDS: Final = 30.0


class SummaryWriter(WriterMethods):
    """Torch's and tensorboardX's ``SummaryWriter``, with nothing to start: see :class:`WriterMethods` for the methods.

    ``log_dir`` (or ``logdir``) is the folder of the event files; default ``runs/<time>_<host><comment>``. TensorBoard
    drops what was written to the folder before, from the step ``purge_step`` on. ``filename_suffix`` ends the names of
    the event files. With ``write_to_disk=False`` nothing is kept. ``max_queue`` and ``flush_secs`` have no meaning
    here, since no value waits in this process, and ``comet_config`` is ignored.

    The constructor and the methods return at once. ``close`` waits until the event files are complete and on disk, at
    most ``close_seconds``. After ``close``, and in a forked child, the next call opens the writer again. Writers of one
    process on one folder share a telemetry: TensorBoard wants one writer for a folder.

    ``endpoint`` is the address of a logger of your own, which makes the event files below its own log directory. The
    environment variable TENSORBOARD_SIDECAR_LOGGER does the same for all writers; "off" means: a recording alone.
    ``record`` is another folder for the recording, and no event files are made. ``keep_recording=False`` deletes the
    recording at the close, when the event files are complete. With ``strict``, faults are raised. ``on_finding`` is as
    for :class:`Telemetry`.

    Raises ValueError or TypeError for wrong settings, OSError when memory or the folder is not available.

    >>> from tensorboard_sidecar import SummaryWriter
    >>> with SummaryWriter("runs/first-try") as writer:
    ...     for step in range(3):
    ...         writer.add_scalar("loss/train", 1 / (step + 1), step)
    """

    # Long: a parameter for each setting
    def __init__(
        self,
        logdir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
        write_to_disk: bool = True,
        log_dir: str | os.PathLike[str] | None = None,
        comet_config: object = None,
        *,
        endpoint: str | None = None,
        record: str | os.PathLike[str] | None = None,
        keep_recording: bool = True,
        close_seconds: float = CLOSE_SECONDS,
        strict: bool = False,
        on_finding: OnFinding | None = None,
    ) -> None:
        del max_queue, flush_secs, comet_config
        default = f"runs/{strftime('%b%d_%H-%M-%S', localtime())}_{socket.gethostname()}{comment}"
        given = os.path.expanduser(_text(log_dir if logdir is None else logdir) or default)  # noqa: PTH111 - kept as text
        self._opening = Opening(
            absolute(given),
            endpoint=endpoint,
            record=absolute(os.path.expanduser(record)) if record else None,  # noqa: PTH111 - as above
            purge_step=None if purge_step is None else check_step(whole("purge_step", purge_step)),
            file_suffix=str(filename_suffix or ""),
            keep_recording=keep_recording,
            close_seconds=seconds("close_seconds", close_seconds),
            strict=strict,
            enabled=bool(write_to_disk),
            on_finding=on_finding,
        )
        self._opens = threading.RLock()
        self._current: Telemetry | None = None
        self._silent: Telemetry | None = None
        self._findings: tuple[Finding, ...] = ()
        super().__init__(cast("Telemetry", OpensAgain(self._open_again, Faults(strict=strict))), given)
        if not self._opening.is_repeated():
            self.telemetry = self._current = self._opening.open()
        call_in_children(self._forked)

    def __repr__(self) -> str:
        return f"<SummaryWriter {self.log_dir}>"

    def __reduce__(self) -> Never:
        raise TypeError("a SummaryWriter cannot be sent to another process; make a new SummaryWriter there")

    def __exit__(self, exc_type: object, exc_val: BaseException | None, exc_tb: object) -> None:
        self._close(status_after(exc_val))

    def findings(self) -> tuple[Finding, ...]:
        """Return what is known to be wrong with the run, as :meth:`Telemetry.findings`, also after the close.

        >>> SummaryWriter("runs/silent", write_to_disk=False).findings()
        ()
        """
        return self._findings if self._current is None else self._current.findings()

    def flush(self, wait: bool = False) -> None:
        """Return at once: each call has kept its values when it returns. With ``wait``, wait for the event files.

        The wait ends when the event files hold all values so far, or after ``close_seconds`` with a warning.

        >>> writer.flush()
        """
        if wait and self._current is not None:
            self._opening.show(self._current)

    def close(self) -> None:
        """Wait until the event files are complete and on disk, at most ``close_seconds``; a later call opens again.

        >>> writer.close()
        """
        self._close(None)

    def _close(self, status: Status | None) -> None:
        with self._opens:
            current = self._current
            self._findings = self.findings()
            self._detach()
            self._closed = True
        if current is not None:
            self._opening.close(current, status)
            self._findings = current.findings()

    def _open_again(self) -> Telemetry:
        with self._opens:
            if self._current is None:
                if self._opening.is_repeated():
                    self._silent = self._silent or self._opening.open_silent()
                    return self._silent
                self.telemetry = self._current = self._opening.open_again()
                self._closed = False
            return self._current

    def _detach(self) -> None:
        """Open again at the next call."""
        self.telemetry = cast("Telemetry", OpensAgain(self._open_again, self.telemetry.faults))
        self._current = None

    def _forked(self) -> None:
        """Open again at the next call, in a forked child: the telemetry belongs to the parent process."""
        self._opens = threading.RLock()
        self._detach()


def _text(given: str | os.PathLike[str] | None) -> str:
    """Return a path as text. Raises TypeError for what is no path, ValueError for an address."""
    if given is None or given == "":
        return ""
    text = os.fspath(given)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if _URL.match(text):
        raise ValueError(f"log_dir {text!r:.200}; expected a folder on this machine, as runs/first-try")
    return text
