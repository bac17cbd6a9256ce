"""What a projection has done, for logs, health and reports."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counts:
    """Numbers since the start; they only grow."""

    records: int = 0
    events: int = 0
    event_bytes: int = 0
    unknown_kinds: int = 0
    malformed: int = 0
    drawings: int = 0
    drawing_failures: int = 0
    gaps: int = 0
    missing_records: int = 0
    damages: int = 0
    stream_failures: int = 0

    def __str__(self) -> str:
        said = [f"{getattr(self, field.name):,} {field.name.replace('_', ' ')}" for field in fields(self)]
        return ", ".join(text for text in said if not text.startswith("0 ")) or "nothing"
