"""A link that the test steps instead of a thread, with a clock that can run faster."""

from collections.abc import Callable
from time import monotonic
from typing import Final

from support.machine.waiting import wait_until

from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.outbox.send_session import SendSession
from tensorboard_sidecar.protocol.storage.key_files import ClientKeys
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink, Source

_HURRY_SECONDS: Final = 0.02


class DrivenLink:
    """A link from ``source`` to ``endpoint``. With ``hurry``, a timeout of seconds passes in some hundred steps."""

    def __init__(
        self,
        source: Source,
        endpoint: str,
        keys: ClientKeys | None = None,
        take_findings: Callable[[list[Finding]], None] | None = None,
    ) -> None:
        self.link = LoggerLink(source, endpoint, keys, take_findings=take_findings)
        self._ahead_seconds = 0.0

    @property
    def session(self) -> SendSession:
        """The link's session."""
        return self.link.session

    def turn(self, *, later_seconds: float = 0.0) -> bool:
        """Step the link once; tell whether it sent data."""
        self._ahead_seconds += later_seconds
        return self.link.step(monotonic() + self._ahead_seconds)

    def drive(self, until: Callable[[], object], *, hurry: bool = False) -> None:
        """Step the link until ``until`` returns a true value."""

        def turn() -> object:
            if not self.turn(later_seconds=_HURRY_SECONDS if hurry else 0.0):
                self.link.wait(0.005)
            return until()

        wait_until(turn)

    def drive_to(self, end_sequence: int, *, hurry: bool = False) -> None:
        """Step the link until all records before ``end_sequence`` are acknowledged."""
        self.drive(lambda: self.session.acked_sequence == end_sequence, hurry=hurry)
