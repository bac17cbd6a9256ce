"""A recording described for people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.offline.contents import Contents, read_contents
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.find import require_recordings

_SHOWN_MAX: Final = 10
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def inspect(paths: Sequence[Path]) -> str:
    """Describe every recording at or below ``paths``; raise FileNotFoundError where there is none, OSError."""
    return "\n".join(printable(line) for folder in require_recordings(paths) for line in _describe(folder))


def _describe(folder: Path) -> Iterator[str]:
    try:
        found = read_contents(folder)
    except ProtocolError as error:
        yield from (f"{folder}", f"  not readable: {error}", "")
        return
    stream = found.stream
    yield f"{folder}"
    yield f"  run        {stream.run}"
    yield f"  stream     {stream.id.hex()}, attempt {stream.attempt}, rank {stream.rank}"
    yield f"  status     {found.status or 'no end of run: still written, or the trainer was killed'}"
    if found.records:
        yield f"  time       {_time(found.first_time_ns)} to {_time(found.last_time_ns)}"
        yield f"  steps      {found.first_step:,} to {found.last_step:,}"
        yield f"  sequence   {found.first_sequence:,} to {found.last_sequence:,}"
    yield f"  size       {found.size_bytes:,} bytes in {found.segments:,} segments"
    yield from _kinds(found)
    yield from losses(found)
    yield ""


def _kinds(found: Contents) -> Iterator[str]:
    for name, number in sorted(found.records.items()):
        yield f"  {name:<18} {number:>12,} records {found.body_bytes[name]:>16,} bytes"


def losses(found: Contents) -> Iterator[str]:
    """Yield a line for everything a recording misses, the first of each sort by name."""
    gaps = [
        f"gap: {gap.last - gap.first + 1:,} records, sequence {gap.first:,} to {gap.last:,}: {gap.reason:.200}"
        + "".join(f", {number:,} {kind:.80}" for kind, number in list(gap.kinds.items())[:_SHOWN_MAX])
        for gap in found.gaps
    ]
    holes = [f"hole: sequence {first:,} to {last:,} never came" for first, last in found.holes]
    damages = [f"damage: {damage}" for damage in found.damages]
    malformed = [f"malformed: {reason}" for reason in found.malformed]
    for lines in (gaps, holes, damages, malformed):
        yield from (f"  {line}" for line in lines[:_SHOWN_MAX])
        if len(lines) > _SHOWN_MAX:
            yield f"  ... and {len(lines) - _SHOWN_MAX:,} more"


def _time(wall_time_ns: int) -> str:
    """Return a time in UTC; what no calendar holds as seconds."""
    try:
        return f"{_EPOCH + timedelta(microseconds=wall_time_ns // 1000):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{wall_time_ns / 1e9:,.0f} s"
