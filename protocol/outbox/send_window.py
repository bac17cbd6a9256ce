"""The sender's window of go-back-N: acknowledged records, batches in flight, and the logger's credit."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class SendWindow:
    """The window of one stream; no I/O, no time.

    All records before ``acked_sequence`` are durable at the logger. ``next_sequence`` is the next record to send.
    ``reached_sequence`` is the highest ``next_sequence`` since the WELCOME: after a NAK, records that were sent before
    may still arrive. At most ``credit_bytes`` are in flight, or one batch when that batch alone is larger.
    """

    acked_sequence: int = 1
    next_sequence: int = 1
    reached_sequence: int = 1
    credit_bytes: int = 0
    in_flight_bytes: int = 0
    _in_flight: deque[tuple[int, int]] = field(default_factory=deque)  # (next sequence, bytes) of each batch

    @property
    def idle(self) -> bool:
        """Whether nothing is in flight."""
        return not self._in_flight

    @property
    def free_bytes(self) -> int:
        """The credit that is not in flight; negative after the logger has reduced the credit."""
        return self.credit_bytes - self.in_flight_bytes

    def restart(self, next_sequence: int, credit_bytes: int) -> None:
        """Apply a WELCOME: the logger holds all records before ``next_sequence``."""
        self.clear_flight()
        self.acked_sequence = self.next_sequence = self.reached_sequence = next_sequence
        self.credit_bytes = credit_bytes

    def send(self, next_sequence: int, size_bytes: int) -> None:
        """Apply a batch that was sent: the records from the old ``next_sequence`` to the new one."""
        self._in_flight.append((next_sequence, size_bytes))
        self.in_flight_bytes += size_bytes
        self.next_sequence = next_sequence
        self.reached_sequence = max(self.reached_sequence, next_sequence)

    def acknowledge(self, next_sequence: int, credit_bytes: int) -> bool:
        """Apply an ACK; return whether the ACK acknowledges more records than before."""
        self.credit_bytes = credit_bytes
        while self._in_flight and self._in_flight[0][0] <= next_sequence:
            self.in_flight_bytes -= self._in_flight.popleft()[1]
        self.next_sequence = max(self.next_sequence, next_sequence)  # the records arrived in spite of a NAK
        progress = next_sequence > self.acked_sequence
        self.acked_sequence = max(self.acked_sequence, next_sequence)
        return progress

    def go_back(self, next_sequence: int) -> None:
        """Apply a NAK: send again from ``next_sequence`` on."""
        while self._in_flight and self._in_flight[-1][0] > next_sequence:
            self.in_flight_bytes -= self._in_flight.pop()[1]
        self.next_sequence = next_sequence

    def clear_flight(self) -> None:
        """Forget the batches in flight: their connection is lost."""
        self._in_flight.clear()
        self.in_flight_bytes = 0
