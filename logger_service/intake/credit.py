"""Credit: how many bytes of records a stream may have on their way to the journal. Pure: no I/O, no clock.

WELCOME and ACK tell a trainer its credit. Credit bounds the memory of the logger, and the bytes that still come when
the disk stalls or fills.

Rule 1: all streams share ``CREDIT_TOTAL_BYTES`` and the room on the disk in equal parts. No stream gets more than
``CREDIT_BYTES``.
Rule 2: a share is at least one batch, although the shares of very many streams then exceed the total: a smaller credit
would stop the stream for good.
Rule 3: while the disk is below its low-water mark, and while the journal of the stream is paused after a failure, the
credit is 0. The first credit after a pause is one batch; the share returns with the first commit that succeeds.
Rule 4: a peer may use all credit that was ever granted. The peer may not know the last ACK yet, so a smaller credit
takes nothing back. A batch larger than the credit is accepted only when nothing is on its way and there is credit: a
single record may be larger than a share. Anything more breaks the protocol.
Rule 5: only new records count. Records that the session drops, and records that come again, are free.
"""

from collections import deque
from collections.abc import Iterable

from tensorboard_sidecar.logger_service.limits import CREDIT_TOTAL_BYTES
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES


class CreditExceeded(ProtocolError):
    """A peer sent more bytes than all credit granted to the peer allows."""


def equal_share_bytes(streams: int, room_bytes: int | None, *, disk_is_low: bool) -> int:
    """Return the credit of each of ``streams`` streams whose journal works.

    ``room_bytes`` is the room on the disk above the reserve, None where the room does not matter. ``disk_is_low`` says
    that the disk is below its low-water mark.
    """
    if disk_is_low:
        return 0
    streams = max(1, streams)
    bounds_bytes = [CREDIT_TOTAL_BYTES] if room_bytes is None else [CREDIT_TOTAL_BYTES, room_bytes]
    return min(CREDIT_BYTES, max(BATCH_SIZE_MAX_BYTES, min(bounds_bytes) // streams))


def held_back_bytes(credits_bytes: Iterable[int]) -> int:
    """Return how far the credits of all streams together stay below the most that a stream can have."""
    return sum(CREDIT_BYTES - credit_bytes for credit_bytes in credits_bytes)


class CreditAccount:
    """The credit of one stream and its use. All counts are bytes of new records since the last WELCOME.

    ``durable <= received``, and ``received <= granted`` except for a single batch that is larger than the credit.
    """

    def __init__(self) -> None:
        self._granted_bytes = self._received_bytes = self._durable_bytes = 0
        # Per batch that is not durable yet: the sequence number behind the batch, and the bytes received up to there.
        self._pending: deque[tuple[int, int]] = deque()

    def __repr__(self) -> str:
        counts = (self._durable_bytes, self._received_bytes, self._granted_bytes)
        return "<CreditAccount: {:,} bytes durable, {:,} received, {:,} granted>".format(*counts)

    def reset(self) -> None:
        """Begin again at a WELCOME: nothing is on its way, nothing is granted."""
        self._granted_bytes = self._received_bytes = self._durable_bytes = 0
        self._pending.clear()

    def grant(self, credit_bytes: int) -> None:
        """Note a credit that an answer to the peer contains."""
        self._granted_bytes = max(self._granted_bytes, self._durable_bytes + credit_bytes)

    def spend(self, size_bytes: int, next_sequence: int) -> None:
        """Note a batch of new records that ends before ``next_sequence``.

        Raises CreditExceeded when the batch is more than the peer may send; the account then stays the same.
        """
        received_bytes = self._received_bytes + size_bytes
        nothing_pending_and_credit_left = self._received_bytes == self._durable_bytes < self._granted_bytes
        if received_bytes > self._granted_bytes and not nothing_pending_and_credit_left:
            raise CreditExceeded(
                f"the peer sent more than its credit allows: {received_bytes:,} bytes since the WELCOME;"
                f" {self._granted_bytes:,} are allowed"
            )
        self._received_bytes = received_bytes
        self._pending.append((next_sequence, received_bytes))

    def settle(self, durable_sequence: int) -> None:
        """Note that all records before ``durable_sequence`` are durable: their bytes are no longer on their way."""
        while self._pending and self._pending[0][0] <= durable_sequence:
            self._durable_bytes = self._pending.popleft()[1]

    def drop_pending(self) -> None:
        """Give back the bytes of all records that are not durable: the journal lost them, and they come again."""
        self._pending.clear()
        self._received_bytes = self._durable_bytes
