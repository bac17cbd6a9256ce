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

from tensorboard_sidecar.protocol.checks import check_message
from tensorboard_sidecar.protocol.codec import KINDS, decode_message, encode_body
from tensorboard_sidecar.protocol.messages import Message, TensorSummaries
from tensorboard_sidecar.protocol.outbox.destination import NO_LOGGER, Destination, write_destination
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.device_slots import BODY_SIZE_MIN_BYTES, Build, DeviceValues, PendingRecords
from tensorboard_sidecar.telemetry.outbox.storage import Storage
from tensorboard_sidecar.telemetry.recovery.background import BackgroundRecovery
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder
from tensorboard_sidecar.telemetry.shipping.sender import Sender
from tensorboard_sidecar.telemetry.values.device_copy import start_copy

_UNSHIPPED: Final = (
    "telemetry of run %s is not all shipped; it waits in memory%s. Start a logger, then: "
    "tensorboard-sidecar drain %s --endpoint %s"
)
_UNRECORDED: Final = (
    "telemetry of run %s is not all recorded; it waits in memory%s. "
    "Finish it with: tensorboard-sidecar drain %s, when %s can be written"
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


class Pipeline:
    """The way of ``stream`` to a logger at ``endpoint``, to a recording under ``record``, or to both.

    ``keys`` are for the logger. What other trainers left where ``storage`` is, for the same logger or below the same
    folder, goes there too. Raises ProtocolError for a stream that no reader takes, ValueError for an endpoint or sizes
    that cannot be, OSError when memory or folders cannot be had.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        endpoint: str | None,
        record: Path | None,
        storage: Storage,
        keys: ClientKeys | None = None,
    ) -> None:
        encode_message(0, stream.segment_head(1))
        now = time_ns()
        self._unusable = ""
        record = record and Path(os.path.realpath(record))
        self._unfinished = (_UNSHIPPED, endpoint) if endpoint else (_UNRECORDED, record)
        with ExitStack() as undo:
            self.backlog = storage.make(stream, wall_time_ns=now)
            self.outbox = self.backlog.outbox
            undo.callback(self.backlog.close, keep=False)

            link = LoggerLink(self.backlog, endpoint, keys) if endpoint else None
            if link:
                undo.callback(link.close)
            destination = Destination(endpoint or NO_LOGGER, record, link.public_key if link else "")
            write_destination(self.outbox.folder, destination)
            recorder = Recorder(self.backlog, record, wall_time_ns=now) if record else None
            self._pending = PendingRecords(self.outbox)
            self._background = BackgroundRecovery(
                storage.find_outboxes, record=record, endpoint=endpoint, keys=keys, wall_time_ns=now
            )
            self.sender = Sender(self.backlog, link, recorder, self._pending.poll, self._background)
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
        self._pending.let_go()
        size = max(BODY_SIZE_MIN_BYTES, size_max_bytes, len(template))
        self.outbox.reserve(kind, step, time_ns(), size, DeviceValues(copies, build))

    def health(self) -> dict[str, float]:
        """Return by tag how late it is, what it holds and what it refused."""
        return {
            "telemetry/lag_seconds": self.sender.lag_seconds,
            "telemetry/outbox_bytes": float(self.outbox.used_bytes),
            "telemetry/spilled_bytes": float(self.backlog.spilled_bytes),
            "telemetry/refused": float(self.outbox.refusals.total),
        }

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
                on_disk = " and on disk" if self.backlog.spilled_bytes else ""
                unfinished, where = self._unfinished
                _logger.warning(unfinished, self.outbox.stream.run, on_disk, self.outbox.folder, where)
        if not self.sender.is_alive():  # else it still uses the outbox, which stays as it is when the process ends
            self.backlog.close(keep=not shipped)
        return shipped

    def _forked(self) -> None:
        if not self._unusable:
            self._unusable = "telemetry does not cross a fork; make a Telemetry of its own in the child process"
            self.backlog.disown()
            self._background.disown()


def _mark_in_forked_children(pipeline: Pipeline) -> None:
    """Refuse records in a child: it has the outbox's memory but not its sender, and would tear what is there."""
    reference = weakref.ref(pipeline)

    def mark() -> None:
        if (found := reference()) is not None:
            found._forked()  # noqa: SLF001 - same module

    os.register_at_fork(after_in_child=mark)
