"""A logger that is killed at the worst moment there is: its trainer was told that all is on disk, and has left.

python tests/faults/harness/killed_at_bye_program.py honest|early serve ...

``early`` has a bug on purpose besides: it acknowledges what it has not yet written, and writes it a commit later.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[3] / "src")

from tensorboard_sidecar import __main__  # noqa: E402 - the path comes first
from tensorboard_sidecar.logger_service.intake import journal  # noqa: E402 - the path comes first
from tensorboard_sidecar.logger_service.intake.open_streams import OpenStreams  # noqa: E402 - the path comes first
from tensorboard_sidecar.protocol.record import FrameBatch  # noqa: E402 - the path comes first
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter  # noqa: E402 - the path comes first


class EarlyAckWriter(RecordingWriter):
    """Says of what came that it is durable, and only holds it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._held: list[FrameBatch] = []
        self._acknowledged: list[FrameBatch] = []

    def append(self, run: FrameBatch) -> None:
        """Hold a run."""
        self._held.append(FrameBatch(memoryview(bytes(run.frames)), run.first_sequence, run.next_sequence))
        self.next_sequence = run.next_sequence

    def sync(self) -> None:
        """Write what the last sync said was written; say it of what came since."""
        late, self._acknowledged, self._held = self._acknowledged, self._held, []
        promised = self.next_sequence
        for run in late:
            self.next_sequence = run.first_sequence
            super().append(run)
        self.next_sequence = promised
        super().sync()


def die(*_: Any) -> None:
    """Do not even say goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv.pop(1) == "early":
        journal.RecordingWriter = EarlyAckWriter  # type: ignore[attr-defined,misc]
    OpenStreams.finish = die  # type: ignore[method-assign]
    sys.exit(__main__.main())
