"""From messages to the outbox, and the life of the threads and sinks behind it."""

import logging
import os
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import time_ns
from typing import Final

import torch
from torch import Tensor

from protocol.checks import check_message
from protocol.codec import KINDS, decode_message, encode_body
from protocol.messages import Message, TensorSummaries
from protocol.outbox_location import outbox_capacity_bytes, outbox_root
from protocol.record import Record
from protocol.stream import Stream
from trainer.telemetry.device_copy import start_copy
from trainer.telemetry.link import LoggerLink
from trainer.telemetry.outbox import SEGMENT_SIZE_BYTES, Outbox
from trainer.telemetry.pending import BODY_SIZE_MIN_BYTES, Build, PendingRecords
from trainer.telemetry.recorder import Recorder
from trainer.telemetry.sender import Sender

_SEGMENTS_MIN: Final = 8
_UNSHIPPED: Final = (
    "telemetry of run %s is not all shipped; it waits in shared memory. Start a logger, then: "
    "python -m trainer.telemetry drain %s --endpoint %s"
)
_logger = logging.getLogger(__name__)


def encode_message(step: int, message: Message) -> bytes:
    """Return the body of a message that every reader takes. Raises ProtocolError or TypeError for another.

    What people gave is read back, so that a wrong type is said here and not by the logger, to nobody. Summaries are
    made by this program; reading back thousands of them would take longer than making them.
    """
    if isinstance(message, TensorSummaries):
        check_message(message)
        return encode_body(message)
    body = encode_body(message)
    decode_message(Record(KINDS[type(message)], 1, step, 0, body))
    return body


class Channel:
    """The way of ``stream`` to a logger at ``endpoint``, to a recording under ``record``, or to both.

    Raises ProtocolError for a stream that no reader takes, ValueError for an endpoint that cannot be, OSError when
    memory or folders cannot be had.
    """

    def __init__(self, stream: Stream, *, endpoint: str | None, record: Path | None, outbox_bytes: int) -> None:
        encode_message(0, stream.segment_head(1))
        root, now = outbox_root(), time_ns()
        capacity = outbox_capacity_bytes(root, outbox_bytes)
        self._unusable = ""
        self._endpoint = endpoint or "ADDRESS"
        with ExitStack() as undo:
            self.outbox = Outbox(
                root / stream.id.hex(),
                stream,
                capacity_bytes=capacity,
                wall_time_ns=now,
                segment_size_bytes=min(SEGMENT_SIZE_BYTES, capacity // _SEGMENTS_MIN),
            )
            undo.callback(self.outbox.close, keep=False)
            link = LoggerLink(self.outbox, endpoint) if endpoint else None
            if link:
                undo.callback(link.close)
            recorder = Recorder(self.outbox, record, wall_time_ns=now) if record else None
            self._pending = PendingRecords(self.outbox)
            self.sender = Sender(self.outbox, link, recorder, self._pending.poll)
            self.sender.start()
            undo.pop_all()
        _mark_in_forked_children(self)

    @property
    def closed(self) -> bool:
        """Tell whether records are no longer taken."""
        return bool(self._unusable)

    def check_open(self) -> None:
        """Raise RuntimeError when closed, or in a forked child."""
        if self._unusable:
            raise RuntimeError(self._unusable)

    def append(self, kind: int, step: int, body: bytes) -> None:
        """Keep a record whose body is encoded. Raises RuntimeError when closed, TooLarge."""
        self.outbox.append(kind, step, time_ns(), body)

    def keep(self, step: int, message: Message) -> None:
        """Keep a message. Raises ProtocolError or TypeError for one that no reader takes, and as :meth:`append`."""
        self.append(KINDS[type(message)], step, encode_message(step, message))

    def keep_tensors(
        self, step: int, kind: int, tensors: Sequence[Tensor], build: Build, *, size_max_bytes: int = 0
    ) -> None:
        """Keep ``build(arrays)``: now when all tensors are in host memory, else when their copies have arrived.

        ``size_max_bytes`` bounds the encoded message where its size depends on the values. Raises as :meth:`keep`.
        """
        if all(tensor.is_cpu for tensor in tensors):
            self.keep(step, build([tensor.numpy() for tensor in tensors]))
            return
        zeros = [torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu").numpy() for tensor in tensors]
        template = encode_message(step, build(zeros))
        copies = [start_copy(tensor) for tensor in tensors]  # before the slot: what fails here leaves none unfilled
        size = max(BODY_SIZE_MIN_BYTES, size_max_bytes, len(template))
        slot = self.outbox.reserve(kind, step, time_ns(), size)
        if slot is not None:
            self._pending.add(slot, copies, build)

    def close(self, deadline_seconds: float) -> bool:
        """Ship what is left for at most ``deadline_seconds``; tell whether all was shipped.

        What was not stays in the outbox, and a line says how to finish. A second call does nothing.
        """
        if self._unusable:
            return True
        self._unusable = "telemetry is closed"
        self.outbox.seal()
        shipped = False
        try:
            shipped = self.sender.finish(deadline_seconds)
        finally:  # Ctrl-C, by somebody who does not want to wait, is told the same
            if not shipped:
                _logger.warning(_UNSHIPPED, self.outbox.stream.run, self.outbox.folder, self._endpoint)
        if not self.sender.is_alive():  # else it still uses the outbox, which stays as it is when the process ends
            self.outbox.close(keep=not shipped)
        return shipped

    def _forked(self) -> None:
        if not self._unusable:
            self._unusable = "telemetry does not cross a fork; make a Telemetry of its own in the child process"
            self.outbox.disown()


def _mark_in_forked_children(channel: Channel) -> None:
    """Refuse records in a child: it has the outbox's memory but not its sender, and would tear what is there."""
    reference = weakref.ref(channel)

    def mark() -> None:
        if (found := reference()) is not None:
            found._forked()  # noqa: SLF001 - same module

    os.register_at_fork(after_in_child=mark)
