"""From messages to the outbox, and the life of the threads and sinks behind it."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from time import time_ns

import torch
from torch import Tensor

from protocol.checks import check_message
from protocol.codec import KINDS, encode_body
from protocol.messages import Message
from protocol.stream import Stream
from trainer.telemetry.device_copy import start_copy
from trainer.telemetry.link import LoggerLink
from trainer.telemetry.location import outbox_capacity_bytes, outbox_root
from trainer.telemetry.outbox import Outbox
from trainer.telemetry.pending import BODY_SIZE_MIN_BYTES, Build, PendingRecords
from trainer.telemetry.recorder import Recorder
from trainer.telemetry.sender import Sender


class Channel:
    """The way of ``stream`` to a logger at ``endpoint``, to a recording under ``record``, or to both.

    Raises ValueError for an endpoint that cannot be, OSError when memory or folders cannot be had.
    """

    def __init__(self, stream: Stream, *, endpoint: str | None, record: Path | None, outbox_bytes: int) -> None:
        root, now = outbox_root(), time_ns()
        capacity = outbox_capacity_bytes(root, outbox_bytes)
        self.outbox = Outbox(root / stream.id.hex(), stream, capacity_bytes=capacity, wall_time_ns=now)
        try:
            link = LoggerLink(self.outbox, endpoint) if endpoint else None
            recorder = Recorder(self.outbox, record, wall_time_ns=now) if record else None
        except (ValueError, OSError):
            self.outbox.close(keep=False)
            raise
        self._pending = PendingRecords(self.outbox)
        self._unusable = ""
        self.sender = Sender(self.outbox, link, recorder, self._pending.poll)
        self.sender.start()
        _mark_in_forked_children(self)

    @property
    def closed(self) -> bool:
        """Tell whether records are no longer taken."""
        return bool(self._unusable)

    def append(self, kind: int, step: int, body: bytes) -> None:
        """Keep a record whose body is encoded. Raises RuntimeError when closed or in a forked child, TooLarge."""
        if self._unusable:
            raise RuntimeError(self._unusable)
        self.outbox.append(kind, step, time_ns(), body)

    def keep(self, step: int, message: Message) -> None:
        """Check and keep a message. Raises ProtocolError, and as :meth:`append`."""
        check_message(message)
        self.append(KINDS[type(message)], step, encode_body(message))

    def keep_tensors(
        self, step: int, kind: int, tensors: Sequence[Tensor], build: Build, *, size_max_bytes: int = 0
    ) -> None:
        """Keep ``build(arrays)``: now when all tensors are in host memory, else when their copies have arrived.

        ``size_max_bytes`` bounds the encoded message where its size depends on the values. Raises as :meth:`keep`.
        """
        if all(tensor.is_cpu for tensor in tensors):
            self.keep(step, build([tensor.numpy() for tensor in tensors]))
            return
        template = build([torch.zeros(tensor.shape, dtype=tensor.dtype).numpy() for tensor in tensors])
        check_message(template)
        if self._unusable:
            raise RuntimeError(self._unusable)
        size = max(BODY_SIZE_MIN_BYTES, size_max_bytes, len(encode_body(template)))
        slot = self.outbox.reserve(kind, step, time_ns(), size)
        if slot is not None:
            self._pending.add(slot, [start_copy(tensor) for tensor in tensors], build)

    def close(self, deadline_seconds: float) -> bool:
        """Ship what is left for at most ``deadline_seconds``; tell whether all was shipped.

        What was not stays in the outbox. A second call, or one in a forked child, does nothing.
        """
        if self._unusable:
            return True
        self._unusable = "telemetry is closed"
        shipped = self.sender.finish(deadline_seconds)
        self.outbox.close(keep=not shipped)
        return shipped

    def _forked(self) -> None:
        self._unusable = "telemetry does not cross a fork; make a Telemetry of its own in the child process"


def _mark_in_forked_children(channel: Channel) -> None:
    """Refuse records in a child: it has the outbox's memory but not its sender, and would tear what is there."""
    reference = weakref.ref(channel)

    def mark() -> None:
        if (found := reference()) is not None:
            found._forked()  # noqa: SLF001 - same module

    os.register_at_fork(after_in_child=mark)
