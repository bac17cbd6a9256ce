"""Delivers one orphaned outbox: claim, write the recording, ship to a logger, settle, then delete or keep.

The next trainer, the logger and ``drain`` share this code. Each of them brings its own :class:`Delivery`: a ZeroMQ
link, a peer inside the logger's process, or the writer of a recording.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.location import check_private
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK


class Unclaimed(Exception):
    """The outbox has an owner, or another process has delivered and deleted the outbox."""


class NotDelivered(Exception):
    """The reason why a sink does not take an orphan. ``retry``: a later attempt may succeed."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.retry = retry


class Delivery(Protocol):
    """The transfer of one orphan to one sink, in bounded steps."""

    @property
    def records(self) -> int:
        """The number of records to transfer."""

    @property
    def result(self) -> str:
        """Empty until the sink holds all records durably, then a phrase for the report, like "shipped"."""

    def step(self, now_seconds: float) -> bool:
        """Transfer a bounded number of bytes; return whether more can be done at once.

        Raises NotDelivered with the reason. Any other error ends the delivery for good.
        """

    def close(self) -> None:
        """Release the sink. The orphan stays open."""


@dataclass(frozen=True, slots=True)
class Sink:
    """A recording or a logger.

    ``open`` begins the delivery of an orphan at a monotonic time, and returns None when the orphan has no such sink.
    """

    open: Callable[[OrphanedOutbox, float], Delivery | None]
    recording: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the delivery to one sink. ``text`` is the result of the delivery, or the reason of its failure."""

    text: str
    delivered: bool = False
    retry: bool = False


def claim(folder: Path, *, private: bool = False) -> OrphanedOutbox:
    """Take the owner's lock of an outbox whose trainer is gone.

    Raises Unclaimed when there is nothing to deliver, ProtocolError or OSError when the outbox cannot be read,
    PermissionError when ``private`` is asked for and other users have access.
    """
    try:
        if private:
            check_private(folder)
        return OrphanedOutbox(folder)
    except BlockingIOError:
        raise Unclaimed("its trainer runs and ships it itself") from None
    except (ProtocolError, OSError):
        if not (folder / OWNER_LOCK).exists():
            raise Unclaimed("shipped meanwhile, by a logger or a trainer") from None
        raise


class OrphanDelivery:
    """Delivers ``orphan`` to ``sinks``, recordings first. A sink that fails does not stop the sinks after it."""

    def __init__(self, orphan: OrphanedOutbox, sinks: Iterable[Sink]) -> None:
        self.orphan = orphan
        self.outcomes: list[Outcome] = []
        self.records = 0
        self.settled = False
        self._sinks = deque(sorted(sinks, key=lambda sink: not sink.recording))
        self._delivery: Delivery | None = None

    def __repr__(self) -> str:
        return f"<OrphanDelivery of {self.orphan.folder.name}, run {self.orphan.stream.run}: {self._delivery!r}>"

    @property
    def ended(self) -> bool:
        """Whether every sink has taken or refused the orphan."""
        return not self._sinks

    def step(self, now_seconds: float) -> bool:
        """Open the next sink, or transfer a bounded number of bytes; return whether more can be done at once."""
        try:
            if self._delivery is None:
                self._delivery = self._sinks[0].open(self.orphan, now_seconds)
                if self._delivery is None:
                    self._sinks.popleft()
                return True
            busy = self._delivery.step(now_seconds)
            if self._delivery.result:
                self._settle(self._delivery, recording=self._sinks[0].recording)
        except NotDelivered as error:
            self._end(Outcome(str(error), retry=error.retry))
        except (ProtocolError, LookupError, ValueError, OSError) as error:
            self._end(Outcome(str(error)))
        except Exception as error:  # noqa: BLE001 - no bytes in an outbox may end a logger or a trainer
            self._end(Outcome(repr(error)))
        else:
            return busy
        return True

    def close(self) -> None:
        """Release the sink and the orphan; delete the orphan when no sink waits for its records."""
        self._close_delivery()
        self.orphan.close(keep=not self.settled)

    def _settle(self, delivery: Delivery, *, recording: bool) -> None:
        try:
            self.settled = self.orphan.settle(recorded=recording, shipped=not recording)
        except OSError as error:
            raise NotDelivered(str(error), retry=True) from error
        self.records += delivery.records
        self._end(Outcome(delivery.result, delivered=True))

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._sinks.popleft()
        self._close_delivery()

    def _close_delivery(self) -> None:
        if self._delivery is not None:
            self._delivery.close()
            self._delivery = None
