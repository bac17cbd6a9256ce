"""A silent telemetry: what a module-level ``Telemetry`` becomes in a spawned child process.

``multiprocessing`` with the start methods "spawn" and "forkserver" imports the main module again in each child (each
worker of a ``DataLoader``, for example), and then unpickles the work. A Telemetry that is made meanwhile repeats the
line of the parent process, and would open the parent's run again, as a new attempt. The Telemetry is therefore silent:
it has no outbox, no stream and no thread, and keeps nothing. A Telemetry that the child's own function makes is not.
"""

import logging
from multiprocessing import process
from typing import Final

from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.pipeline import Pipeline
from tensorboard_sidecar.telemetry.shipping.told_findings import ToldFindings

_REASON: Final = (
    "a Telemetry that is made while a spawned process imports the main module again keeps nothing; make the Telemetry"
    ' under `if __name__ == "__main__":`, or inside the function that the process runs'
)
_log = logging.getLogger(__name__)


def child_is_starting() -> bool:
    """Tell whether this process is a child of ``multiprocessing`` that imports the main module or unpickles its work.

    ``multiprocessing`` sets the attribute for just this time, to refuse a process that starts processes meanwhile. A
    Python without the attribute has no silent telemetry.

    >>> child_is_starting()
    False
    """
    return bool(getattr(process.current_process(), "_inheriting", False))


class SilentPipeline(Pipeline):
    """A pipeline that was never open: it rejects each record, as a pipeline in a forked child does.

    Warns once, unless it is ``wanted``.
    """

    def __init__(self, stream: Stream, *, wanted: bool = False) -> None:
        self.stream, self.flight, self.told = stream, None, ToldFindings()
        self._unusable, self._stopped = "this Telemetry is not enabled" if wanted else _REASON, False
        if not wanted:
            _log.warning("run %s: %s", stream.run, _REASON)

    def __repr__(self) -> str:
        return "<SilentPipeline>"

    @property
    def is_shown(self) -> bool:
        """True: no record waits."""
        return True

    def show(self, seconds: float) -> bool:  # noqa: ARG002 - nothing to wait for
        """Return True: no record waits."""
        return True

    @property
    def lag_seconds(self) -> float:
        """0.0: no record waits."""
        return 0.0

    def health(self) -> dict[str, float]:
        """Return zeros by tag: no record waits or was refused."""
        return dict.fromkeys(
            ("telemetry/lag_seconds", "telemetry/outbox_bytes", "telemetry/spilled_bytes", "telemetry/refused"), 0.0
        )
