"""Which client of a helper takes the findings of which stream, and what the client has not been told."""

from collections.abc import Collection, Iterator, Mapping

from tensorboard_sidecar.logger_service.projection.findings_report import Unsent
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.helper.messages import Findings
from tensorboard_sidecar.protocol.wire import findings_that_fit


class Telling:
    """The clients that take findings; a client that connects again is a new client, and is told everything."""

    def __init__(self) -> None:
        self._clients: dict[int, tuple[bytes, Unsent]] = {}

    def begin(self, client: int, stream: bytes | None) -> None:
        """Note the stream that a client names; None: the client takes no findings."""
        self.forget(client)
        if stream is not None:
            self._clients[client] = stream, Unsent()

    def forget(self, client: int) -> None:
        """Forget a client that is gone."""
        self._clients.pop(client, None)

    def due(self, client: int, findings: Mapping[bytes, Collection[Finding]]) -> Iterator[Findings]:
        """Yield what a client is to be told; ``findings`` are those of each stream. The caller sends each message."""
        stream, unsent = self._clients.get(client, (b"", None))
        while unsent is not None and stream in findings:
            changed = [finding for _, finding in unsent.changes([(stream, findings[stream])])]
            some = list(findings_that_fit(changed))
            if not some:
                return
            yield Findings(some)
            for finding in some:
                unsent.sent(stream, finding)
