"""Records whose values are still on a device, and their completion on the sender thread."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy.typing as npt

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.messages import Gap, Message
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.outbox.state import Slot

# The smallest slot: a gap that has to replace the record fits.
BODY_SIZE_MIN_BYTES: Final = 256
_log = logging.getLogger(__name__)

Build = Callable[[Sequence[npt.NDArray[Any]]], Message]


class PendingRecords:
    """Completes the slots of ``outbox`` in order.

    The values of a slot are ``(copies, build)``: ``build(arrays)`` returns the message when the copies have arrived.
    ``filled(slot, body)`` is called for each slot that got its values; it must raise nothing.
    """

    def __init__(self, outbox: Outbox, filled: Callable[[Slot, bytes], None] | None = None) -> None:
        self._outbox, self._filled = outbox, filled
        self._said: set[type[Exception]] = set()
        self._spent: deque[object] = deque()

    def poll(self) -> bool:
        """Complete the slots whose values have arrived; return whether a slot still waits. For the sender thread."""
        while (slot := self._outbox.oldest_slot) is not None and self._complete(slot):
            self._spent.append(slot.values)
        return slot is not None

    def let_go(self) -> None:
        """Free the memory of completed copies. For the training thread: torch may call the device when it frees."""
        self._spent.clear()

    def _complete(self, slot: Slot) -> bool:
        """Fill a slot with its values, or with a gap when fetching fails; return False while a copy is under way."""
        try:
            copies, build = slot.values
            if not all(copy.ready() for copy in copies):
                return False
            message = build([copy.array() for copy in copies])
            check_message(message)
            body = encode_body(message)
            self._outbox.fill(slot, body)
            if self._filled is not None:
                self._filled(slot, body)
        except Exception as error:  # noqa: BLE001 - whatever the error, the stream must continue after this slot
            self._give_up(slot, error)
        return True

    def _give_up(self, slot: Slot, error: Exception) -> None:
        if type(error) not in self._said:  # a broken device would log a line for every record
            self._said.add(type(error))
            _log.warning("values of record %d could not be fetched: %s (said once)", slot.sequence, error)
        # ASCII bounds the bytes of the name: the gap must fit into the slot.
        name = type(error).__name__.encode("ascii", "replace").decode()
        gap = Gap(f"not fetched from the device: {name:.80}", {Kind(slot.kind).name.lower(): 1})
        self._outbox.fill(slot, encode_body(gap), kind=Kind.GAP)
