"""A stream's pipeline: encodes messages into the outbox; starts and ends the sender thread, the link, the recorder."""

import logging
import math
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from time import time_ns
from typing import Final

import torch
from torch import Tensor

from tensorboard_sidecar.protocol.codec import decode_message, encode_body
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.kinds import check_message, kind_of
from tensorboard_sidecar.protocol.messages import Message, TensorSummaries
from tensorboard_sidecar.protocol.outbox.forks import call_in_children
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, write_destination
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.flight_recorder import FlightRecorder
from tensorboard_sidecar.telemetry.outbox.backlog import Storage
from tensorboard_sidecar.telemetry.outbox.device_slots import BODY_SIZE_MIN_BYTES, Build, PendingRecords
from tensorboard_sidecar.telemetry.outbox.state import Slot
from tensorboard_sidecar.telemetry.shipping.background import BackgroundRecovery
from tensorboard_sidecar.telemetry.shipping.helper_link import HelperLink
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder
from tensorboard_sidecar.telemetry.shipping.sender import Sender
from tensorboard_sidecar.telemetry.shipping.told_findings import ToldFindings
from tensorboard_sidecar.telemetry.values.device_copy import start_copy

_UNSHIPPED: Final = (
    "not all telemetry of run %s is shipped; the rest waits in memory%s. Start a logger, then run: "
    "tensorboard-sidecar drain %s --endpoint %s"
)
_UNRECORDED: Final = (
    "not all telemetry of run %s is recorded; the rest waits in memory%s. "
    "Finish the recording with: tensorboard-sidecar drain %s, when %s can be written"
)
_UNSHOWN: Final = (
    "the event files of run %s are not complete yet; a helper completes them in the background (tensorboard-sidecar "
    "status shows it), or this command: tensorboard-sidecar replay %s"
)
_log = logging.getLogger(__name__)


def encode_message(step: int, message: Message) -> bytes:
    """Return the body of a message. Raises ProtocolError or TypeError for a message that readers would reject.

    The body is decoded again as a check: a value of a wrong type is reported here, where the user sees the error, and
    not by the logger. Tensor summaries skip the decoding: this program makes them, and decoding thousands of summaries
    takes longer than making them.
    """
    if isinstance(message, TensorSummaries):
        check_message(message)
        return encode_body(message)
    body = encode_body(message)
    decode_message(Record(kind_of(message), 1, step, 0, body))
    return body


class Pipeline:
    """Carries ``stream`` to a logger at ``endpoint``, to a recording under ``record``, or to both.

    ``keys`` encrypt the link to the logger. A helper shows the recording as event files in ``show_in``. The pipeline
    also ships the outboxes that dead trainers left in the folder of ``storage`` for the same logger or the same
    recording folder. ``flight`` keeps the scalars of the last ``flight_steps`` steps; it is None for 0 steps. ``told``
    gets the findings that the logger or the helper tells. Raises ProtocolError for a stream that readers would reject,
    ValueError for a wrong endpoint or size, OSError when memory or a folder is not available.
    """

    # Long: a parameter for each setting
    def __init__(
        self,
        stream: Stream,
        *,
        endpoint: str | None,
        record: Path | None,
        storage: Storage,
        keys: ClientKeys | None = None,
        show_in: Path | None = None,
        flight_steps: int = 0,
        told: ToldFindings | None = None,
    ) -> None:
        encode_message(0, stream.segment_head(1))
        self.stream = stream
        self.told = told or ToldFindings()
        wall_time_ns = time_ns()
        self._unusable = ""
        self._stopped = False
        record = record and Path(os.path.realpath(record))
        self._unfinished = (_UNSHIPPED, endpoint, show_in) if endpoint else (_UNRECORDED, record, show_in)
        with ExitStack() as undo:
            self.backlog = storage.make(stream, wall_time_ns=wall_time_ns)
            self.outbox = self.backlog.outbox
            undo.callback(self.backlog.close, keep=False)

            link = LoggerLink(self.backlog, endpoint, keys, take_findings=self._take_findings) if endpoint else None
            if link:
                undo.callback(link.close)
            destination = Destination(endpoint or NO_LOGGER, record, link.public_key if link else "")
            write_destination(self.outbox.folder, destination)
            recorder = Recorder(self.backlog, record, wall_time_ns=wall_time_ns) if record else None
            self.flight = FlightRecorder(self.outbox, flight_steps) if flight_steps else None
            self._pending = PendingRecords(self.outbox, self._keep_filled if self.flight else None)
            background = BackgroundRecovery(
                storage.find_outboxes, record=record, endpoint=endpoint, keys=keys, wall_time_ns=wall_time_ns
            )
            helper = HelperLink(show_in, stream, self._take_findings) if show_in else None
            self.sender = Sender(self.backlog, link, recorder, self._poll, background, helper)
            self.sender.start()
            undo.pop_all()
        # A forked child shares the outbox's memory but has no sender, and would corrupt records.
        call_in_children(self._forked)

    def __repr__(self) -> str:
        return repr(self.outbox)

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest record that is not yet on the logger's disk or in the recording; 0.0 without one."""
        return self.sender.lag_seconds

    @property
    def closed(self) -> bool:
        """Tell whether the pipeline rejects records: after the close, in a forked child, and when silent."""
        return bool(self._unusable)

    def check_open(self) -> None:
        """Raise RuntimeError when ``closed``."""
        if self._unusable:
            raise RuntimeError(self._unusable)

    def append(self, kind: int, step: int, body: bytes) -> None:
        """Keep a record with an encoded body. Raises RuntimeError when closed, TooLarge for a body above the limit."""
        wall_time_ns = time_ns()
        self.outbox.append(kind, step, wall_time_ns, body)
        if self.flight is not None and kind == Kind.SCALARS:
            self.flight.keep(step, wall_time_ns, body)

    def keep(self, step: int, message: Message, *, wall_time_ns: int | None = None) -> None:
        """Keep a message, with the wall time now or the given one.

        Raises ProtocolError or TypeError for a message that no reader takes, and as :meth:`append`.
        """
        body, kind = encode_message(step, message), kind_of(message)
        wall_time_ns = time_ns() if wall_time_ns is None else wall_time_ns
        self.outbox.append(kind, step, wall_time_ns, body)
        if self.flight is not None and kind == Kind.SCALARS:
            self.flight.keep(step, wall_time_ns, body)

    def keep_tensors(
        self,
        step: int,
        kind: int,
        tensors: Sequence[Tensor],
        build: Build,
        *,
        size_max_bytes: int = 0,
        wall_time_ns: int | None = None,
    ) -> None:
        """Keep the message ``build(arrays)``, where ``arrays`` are the tensors as numpy arrays.

        With all tensors in host memory the record is complete at once. Otherwise the call reserves a slot, and the
        sender thread fills the slot when the copies have arrived. ``size_max_bytes`` bounds the encoded message where
        its size depends on the values. ``wall_time_ns`` and errors are as for :meth:`keep`.
        """
        wall_time_ns = time_ns() if wall_time_ns is None else wall_time_ns
        if all(tensor.is_cpu for tensor in tensors):
            self.keep(step, build([tensor.numpy() for tensor in tensors]), wall_time_ns=wall_time_ns)
            return
        zeros = [torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu").numpy() for tensor in tensors]
        template = encode_message(step, build(zeros))
        copies = [start_copy(tensor) for tensor in tensors]  # before the slot: a failing copy leaves no unfilled slot
        self._pending.let_go()
        size = max(BODY_SIZE_MIN_BYTES, size_max_bytes, len(template))
        self.outbox.reserve(kind, step, wall_time_ns, size, (copies, build))

    def keep_flight(self, step: int, body: bytes) -> None:
        """Keep encoded scalars in the flight recorder alone; raises nothing."""
        if self.flight is not None:
            self.flight.keep(step, time_ns(), body)

    def keep_flight_tensors(self, step: int, tensors: Sequence[Tensor], build: Build) -> None:
        """Keep the scalars ``build(arrays)`` in the flight recorder alone, as :meth:`keep_tensors` does."""
        if self.flight is None:
            return
        if tensors:
            self.flight.keep_copies(step, time_ns(), [start_copy(tensor) for tensor in tensors], build)
        else:
            self.flight.keep(step, time_ns(), encode_message(step, build([])))

    @property
    def is_shown(self) -> bool:
        """Whether the event files hold all records, durably; True where no helper makes them."""
        return self.sender.shown

    def show(self, seconds: float) -> bool:
        """Wait at most ``seconds`` until the event files hold all records so far; return whether they do."""
        self.check_open()
        sequence = self.backlog.next_sequence
        self.sender.show(sequence)
        return self.sender.wait_shown(sequence, seconds)

    def health(self) -> dict[str, float]:
        """Return the lag, the bytes in memory and on disk, and the number of refused records, by tag."""
        return {
            "telemetry/lag_seconds": self.lag_seconds,
            "telemetry/outbox_bytes": float(self.outbox.used_bytes),
            "telemetry/spilled_bytes": float(self.backlog.spilled_bytes),
            "telemetry/refused": float(self.outbox.refusals.total),
        }

    def stop(self, deadline_seconds: float, unanswered_seconds: float = math.inf) -> None:
        """Take no more records, and let the sender thread ship the backlog for at most ``deadline_seconds``.

        The sender thread waits at most ``unanswered_seconds`` for a logger that has never answered. Does not wait; a
        second call does nothing.
        """
        if not self._unusable:
            self._unusable = "telemetry is closed"
            self.outbox.seal()
            self.sender.stop(deadline_seconds, unanswered_seconds)
            self._stopped = True

    def close(self) -> bool:
        """After :meth:`stop`, wait until the backlog is shipped or the deadline is over; tell whether all was shipped.

        Records that were not shipped stay in the outbox, and a warning names the command that ships them. A second
        call does nothing.
        """
        if not self._stopped:
            return True
        self._stopped = False
        shipped = False
        try:
            shipped = self.sender.finish()
        finally:  # warn after Ctrl-C too, when the user does not want to wait
            if not shipped:
                on_disk = " and on disk" if self.backlog.spilled_bytes else ""
                unfinished, where, _ = self._unfinished
                _log.warning(unfinished, self.outbox.stream.run, on_disk, self.outbox.folder, where)
        if shipped and not (self.sender.shown or self.sender.unshowable):
            _log.warning(_UNSHOWN, self.stream.run, self._unfinished[-1])
        if not self.sender.is_alive():  # a live sender still uses the outbox, which survives the end of the process
            self.backlog.close(keep=not shipped)
        self.told.close()
        return shipped

    def _poll(self) -> bool:
        """Do the sender thread's work for values on a device, and that for the flight recorder."""
        waits = self._pending.poll()
        if self.flight is not None:
            self.flight.step()
        return waits

    def _take_findings(self, findings: list[Finding]) -> None:
        """Take what the logger or the helper finds; ship the flight recorder's steps when an error opens."""
        for finding in self.told.take(findings):
            if self.flight is not None and finding.severity == "error" and finding.state == "open":
                self.flight.ship(f"{finding.rule}: {finding.tag}", finding.first_step)

    def _keep_filled(self, slot: Slot, body: bytes) -> None:
        if self.flight is not None and slot.kind == Kind.SCALARS:
            self.flight.keep(slot.step, slot.wall_time_ns, body)

    def _forked(self) -> None:
        """Reject records from now on."""
        if not self._unusable:
            self._unusable = "a Telemetry does not work in a forked child; make a new Telemetry in the child process"
            self.outbox.seal()  # the child's copy of the state: ``append_scalar`` looks at nothing else
