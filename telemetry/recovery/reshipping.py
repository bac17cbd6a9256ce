"""Ships the outbox of a dead trainer to a logger."""

from time import sleep
from typing import Final

from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NotDelivered
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.send_session import SessionState

_ANSWER_INTERVAL_SECONDS: Final = 0.1


class LinkDelivery:
    """Ships ``orphan`` over ``link``; fails when the logger acknowledges nothing for ``timeout_seconds``."""

    def __init__(self, orphan: OrphanedOutbox, link: LoggerLink, now_seconds: float, timeout_seconds: float) -> None:
        self.records = orphan.next_sequence - orphan.first_sequence
        self._end_sequence, self._link = orphan.next_sequence, link
        self._timeout_seconds, self._deadline_seconds = timeout_seconds, now_seconds + timeout_seconds
        self._acked_sequence = 1

    def __repr__(self) -> str:
        return f"<LinkDelivery {self._link!r}>"

    @property
    def result(self) -> str:
        """The word "shipped" when the logger holds all records durably, empty before."""
        return "shipped" if self._link.session.acked_sequence >= self._end_sequence else ""

    def step(self, now_seconds: float) -> bool:
        """Take the logger's answers, then send at most one batch; return whether a batch was sent."""
        sent, session = self._link.step(now_seconds), self._link.session
        if session.state is SessionState.REFUSED:
            raise NotDelivered(session.reason, retry=False)
        if self._progress():
            self._deadline_seconds = now_seconds + self._timeout_seconds
        if not self.result and now_seconds > self._deadline_seconds:
            no_answer = f"no logger answered at {self._link.endpoint} within {self._timeout_seconds:g} seconds"
            raise NotDelivered(session.reason or no_answer, retry=True)
        return sent

    def close(self) -> None:
        """Close the link."""
        self._link.close()

    def _progress(self) -> bool:
        before, self._acked_sequence = (
            self._acked_sequence,
            max(self._acked_sequence, self._link.session.acked_sequence),
        )
        return self._acked_sequence > before


class TimedLinkDelivery(LinkDelivery):
    """Ships ``orphan`` within ``timeout_seconds`` in total. A step that cannot send waits for the logger's answer."""

    def step(self, now_seconds: float) -> bool:
        """Act as :meth:`LinkDelivery.step`; wait up to 0.1 seconds when no batch was sent."""
        sent = super().step(now_seconds)
        if not (sent or self.result or self._link.wait(_ANSWER_INTERVAL_SECONDS)):
            sleep(_ANSWER_INTERVAL_SECONDS)
        return sent

    def _progress(self) -> bool:
        return False
