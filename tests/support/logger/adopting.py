"""A simulated host: trainers leave outboxes, a logger adopts them, and only the test advances the clock."""

from pathlib import Path
from typing import Final

from support.logger.noted_logger import INTERVAL_SECONDS, NotedLogger
from support.records.recordings import START_NS

from tensorboard_sidecar.logger_service.access.allow_list import AllowList
from tensorboard_sidecar.logger_service.intake.orphan_intake import GRACE_SECONDS, LOOK_SECONDS, OrphanIntake
from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

ENDPOINT: Final = "tcp://127.0.0.1:5555"


class Host:
    """A host with outboxes in ``root`` and a logger that adopts them; with ``allowed``, only from allowed keys."""

    def __init__(self, root: Path, recordings: Path, *, allowed: AllowList | None = None) -> None:
        self.root = root
        self.logger = NotedLogger(recordings)
        self.intake = OrphanIntake([root], self.logger.dispatcher, [ENDPOINT], allowed)

    def outbox(self, stream: Stream, records: int, *, size_bytes: int = 100, segment_size_bytes: int = 8192) -> Outbox:
        outbox = Outbox(
            self.root / f"outbox-{stream.run}",
            stream,
            capacity_bytes=2**24,
            wall_time_ns=START_NS,
            segment_size_bytes=segment_size_bytes,
        )
        for step in range(records):
            outbox.append(Kind.SCALARS, step, START_NS, encode_scalars({"a" * size_bytes: float(step)}))
        return outbox

    def abandon(self, stream: Stream, records: int, *, size_bytes: int = 100, segment_size_bytes: int = 8192) -> Path:
        outbox = self.outbox(stream, records, size_bytes=size_bytes, segment_size_bytes=segment_size_bytes)
        outbox.close(keep=True)
        return outbox.folder

    def wait(self, seconds: float) -> None:
        """Advance the clock in steps of a commit interval, as a main loop does."""
        end = self.logger.now + seconds
        while self.logger.now < end:
            self.logger.wait()
            while self.intake.step(self.logger.now):
                pass

    def grace(self) -> None:
        self.wait(LOOK_SECONDS + GRACE_SECONDS + LOOK_SECONDS + 10 * INTERVAL_SECONDS)
