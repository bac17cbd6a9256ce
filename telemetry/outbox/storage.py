"""Where, and how much, a telemetry keeps of the records that no logger has taken: in memory, then on disk."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog, Spill
from tensorboard_sidecar.telemetry.outbox.outbox import SEGMENT_SIZE_BYTES, Outbox
from tensorboard_sidecar.telemetry.values.python_values import whole

NO_SPILL: Final = "none"
_SEGMENTS_MIN: Final = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Storage:
    """Settings of ``telemetry.Telemetry``, which documents these names. Raises ValueError for a negative size."""

    outbox_bytes: int = outbox_files.OUTBOX_BYTES
    outbox_dir: Path | None = None
    spill_dir: Path | str | None = None
    spill_bytes: int = outbox_files.SPILL_BYTES

    def __post_init__(self) -> None:
        if self.spill_bytes < 0:
            raise ValueError(f"spill_bytes {self.spill_bytes}; expected 0 (nothing goes to disk) or more")

    @classmethod
    def of(
        cls, outbox_bytes: Any, outbox_dir: Path | str | None, spill_dir: Path | str | None, spill_bytes: Any
    ) -> "Storage":
        """Convert settings as users give them. Folders become absolute, since a program may change its folder.

        Raises TypeError for a size that is no whole number, ValueError for a negative size.
        """
        return cls(
            whole("outbox_bytes", outbox_bytes),
            Path(outbox_dir).absolute() if outbox_dir else None,
            Path(spill_dir).absolute() if spill_dir and str(spill_dir) != NO_SPILL else spill_dir,
            whole("spill_bytes", spill_bytes),
        )

    def make(self, stream: Stream, *, wall_time_ns: int) -> Backlog:
        """Make an empty outbox for a stream. Raises OSError, ValueError for a capacity that is too small."""
        root = outbox_files.outbox_root(self.outbox_dir)
        capacity = outbox_files.outbox_capacity_bytes(root, self.outbox_bytes)
        folder, on_disk = root / stream.id.hex(), None
        try:
            on_disk = self._spill_root()
        except OSError as error:
            if self.spill_dir:
                raise
            _log.warning("a full outbox cannot go on to disk: %s; give a spill_dir, or none", error)
        outbox = Outbox(
            folder,
            stream,
            capacity_bytes=capacity,
            wall_time_ns=wall_time_ns,
            segment_size_bytes=min(SEGMENT_SIZE_BYTES, capacity // _SEGMENTS_MIN),
        )
        return Backlog(outbox, Spill(folder, on_disk / folder.name, self.spill_bytes) if on_disk else None)

    def find_outboxes(self) -> list[Path]:
        """Return the outboxes in the same place, of running and of dead trainers. Raises OSError."""
        roots = [outbox_files.outbox_root(self.outbox_dir)]
        with suppress(OSError):
            roots += filter(None, [self._spill_root()])
        return find_outboxes(*roots)

    def _spill_root(self) -> Path | None:
        """Return the folder for spilled segments, None when spilling is off. Raises OSError when making it fails."""
        if self.spill_bytes == 0 or str(self.spill_dir) == NO_SPILL:
            return None
        return outbox_files.spill_root(Path(self.spill_dir) if self.spill_dir else self.outbox_dir)
