"""Records whose values are still on a device, and their completion on the sender thread."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.messages import Gap, Message
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.state import Slot
from tensorboard_sidecar.telemetry.values.device_copy import DeviceCopy

# A slot never reserves less, so that the gap that may have to take its place fits.
BODY_SIZE_MIN_BYTES: Final = 256
_logger = logging.getLogger(__name__)

Build = Callable[[Sequence[npt.NDArray[Any]]], Message]


class DeviceValues(NamedTuple):
    """What completes a slot: ``build(arrays)``, once all copies are there."""

    copies: Sequence[DeviceCopy]
    build: Build


class PendingRecords:
    """Completes the slots of ``outbox``, each reserved with its :class:`DeviceValues`, in order."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._said: set[type[Exception]] = set()
        self._spent: deque[object] = deque()

    def poll(self) -> bool:
        """Complete what has arrived; tell whether anything is still waiting. For the sender thread."""
        while (slot := self._outbox.oldest_slot) is not None and self._complete(slot):
            self._spent.append(slot.values)
        return slot is not None

    def let_go(self) -> None:
        """Give back the memory of copies that were fetched. For the training thread: torch tells the device of it."""
        self._spent.clear()

    def _complete(self, slot: Slot) -> bool:
        """Fill a slot with its values, or with a gap when they cannot be had; tell whether it was time for that."""
        try:
            copies, build = slot.values
            if not all(copy.ready() for copy in copies):
                return False
            message = build([copy.array() for copy in copies])
            check_message(message)
            self._outbox.fill(slot, encode_body(message))
        except Exception as error:  # noqa: BLE001 - whatever it was, the stream must go on behind this slot
            self._give_up(slot, error)
        return True

    def _give_up(self, slot: Slot, error: Exception) -> None:
        if type(error) not in self._said:  # a broken device would be said for every record
            self._said.add(type(error))
            _logger.warning("values of record %d could not be fetched: %s (said once)", slot.sequence, error)
        # A name in ASCII, so that its bytes are bounded too: there is no place but the slot's.
        name = type(error).__name__.encode("ascii", "replace").decode()
        gap = Gap(f"not fetched from the device: {name:.80}", {Kind(slot.kind).name.lower(): 1})
        self._outbox.fill(slot, encode_body(gap), kind=Kind.GAP)
