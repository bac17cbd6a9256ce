"""Counters of the messages that the logger receives."""

from dataclasses import dataclass

from tensorboard_sidecar.logger_service.counters import Counters, counter


@dataclass(slots=True)
class IntakeCounts(Counters):
    """Counters since the start of the logger."""

    records: int = counter("records written to the journal")
    record_bytes: int = counter("bytes of these records")
    hellos: int = counter("streams opened, or opened again")
    holes: int = counter("batches that arrived out of order; the trainer sends the missing ones again")
    refused: int = counter("messages refused")
    journal_failures: int = counter("failed writes and fsyncs of the journal; their records are not acknowledged")
