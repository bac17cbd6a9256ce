"""Records whose values are still on a device, and their completion on the sender thread."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from protocol.checks import check_message
from protocol.codec import encode_body
from protocol.messages import Gap, Message
from protocol.record import Kind
from trainer.telemetry.device_copy import DeviceCopy
from trainer.telemetry.outbox import Outbox, Slot

# A slot never reserves less, so that the gap that may have to take its place fits.
BODY_SIZE_MIN_BYTES: Final = 256
_logger = logging.getLogger(__name__)

Build = Callable[[Sequence[npt.NDArray[Any]]], Message]


class _Pending(NamedTuple):
    slot: Slot
    copies: Sequence[DeviceCopy]
    build: Build


class PendingRecords:
    """Slots of ``outbox`` waiting for their values, completed in order."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: deque[_Pending] = deque()
        self._said: set[type[Exception]] = set()

    def add(self, slot: Slot, copies: Sequence[DeviceCopy], build: Build) -> None:
        """Complete ``slot`` with ``build(arrays)`` once all copies are there."""
        self._waiting.append(_Pending(slot, copies, build))

    def poll(self) -> bool:
        """Complete what has arrived; tell whether anything is still waiting. For the sender thread."""
        while self._waiting:
            slot, copies, build = self._waiting[0]
            try:
                if not all(copy.ready() for copy in copies):
                    break
                message = build([copy.array() for copy in copies])
                check_message(message)
                self._outbox.fill(slot, encode_body(message))
            except Exception as error:  # noqa: BLE001 - whatever it was, the stream must go on behind this slot
                self._give_up(slot, error)
            self._waiting.popleft()
        return bool(self._waiting)

    def _give_up(self, slot: Slot, error: Exception) -> None:
        if type(error) not in self._said:  # a broken device would be said for every record
            self._said.add(type(error))
            _logger.warning("values of record %d could not be fetched: %s (said once)", slot.sequence, error)
        gap = Gap(f"not fetched from the device: {type(error).__name__:.80}", {Kind(slot.kind).name.lower(): 1})
        self._outbox.fill(slot, encode_body(gap), kind=Kind.GAP)
