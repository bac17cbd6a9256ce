"""What was received, for logs, health and metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class IntakeCounts:
    """Numbers since the start; they only grow."""

    records: int = 0
    record_bytes: int = 0
    hellos: int = 0
    holes: int = 0
    refused: int = 0
    journal_failures: int = 0

    def __str__(self) -> str:
        return (
            f"{self.records:,} records, {self.record_bytes:,} bytes, {self.refused:,} messages refused,"
            f" {self.journal_failures:,} failures of the journal"
        )
