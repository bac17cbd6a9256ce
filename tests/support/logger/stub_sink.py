"""A sink for orphans that keeps nothing and fails on demand, and orphans for that sink."""

from collections.abc import Callable
from pathlib import Path

from support.records.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import Sink
from tensorboard_sidecar.protocol.outbox.outbox_files import Destination, write_destination
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox


def make_orphan(folder: Path, destination: Destination = Destination(), *, records: int = 10) -> Path:  # noqa: B008 - frozen
    """Leave an outbox without an owner behind; return its folder."""
    outbox = Outbox(folder, make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    for step in range(records):
        outbox.append(Kind.SCALARS, step, START_NS, b"x")
    write_destination(folder, destination)
    outbox.close(keep=True)
    return folder


class StubSink:
    """Takes an orphan in ``steps`` steps, or raises ``error``; ``opened`` and ``closed`` list the orphans' folders."""

    def __init__(self, result: str = "taken", *, steps: int = 1, error: Exception | None = None) -> None:
        self.steps, self.result, self.error = steps, result, error
        self.opened: list[str] = []
        self.closed: list[str] = []

    def sink(self, *, recording: bool = False, grace_seconds: Callable[[Destination], float] = lambda _: 0.0) -> Sink:
        return Sink(lambda orphan, _now_seconds: _StubDelivery(self, orphan), grace_seconds, recording)


class _StubDelivery:
    def __init__(self, sink: StubSink, orphan: OrphanedOutbox) -> None:
        self.records = orphan.next_sequence - orphan.first_sequence
        self.result = ""
        self._sink, self._name, self._left = sink, orphan.folder.name, sink.steps
        sink.opened.append(self._name)

    def step(self, _now_seconds: float) -> bool:
        if self._sink.error is not None:
            raise self._sink.error
        self._left -= 1
        self.result = "" if self._left else self._sink.result
        return True

    def close(self) -> None:
        self._sink.closed.append(self._name)
