"""The judge of every fault: what was promised, against what is there.

It holds three things side by side: the calls that came back (diaries, which no fault touches), the records and gaps
that a replay reads in the recordings, and the events on disk, read by the letter of the format. ``check`` raises
AssertionError with all that is wrong:

- a sequence number was promised and is neither replayed nor told as a gap, or the other way round (one record may stand
  behind the last promise of a trainer: of the call that a kill caught before it came back);
- a number is told as a gap where nothing was to be refused, or for another reason than that;
- a record is not the one that its call was given;
- an event is missing, comes twice, comes late, or has a wrong checksum;
- a call kept its caller waiting.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from faults.diary import TAG, Returned
from faults.event_ids import read_event_ids

from protocol.codec import decode_message
from protocol.messages import Gap, Scalars
from protocol.record import Record
from protocol.recording_reader import RecordingReader

# A call takes tens of microseconds. Only a bug, something waited for, makes it this, on however busy a machine.
CALL_MAX_SECONDS: Final = 1.0
# Why a number may be a gap when memory was too small; the second where the trainer was killed before it could tell.
REFUSALS: Final = {
    "the outbox was full",
    "lost with the trainer: still on a device, or refused by a full outbox",
}
_SHOWN_MAX: Final = 5


@dataclass
class Found:
    """What is there of one stream: sequence numbers that are replayed, those told as gaps, and by kind how many."""

    replayed: set[int] = field(default_factory=set)
    gaps: set[int] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    ends: set[int] = field(default_factory=set)
    """The last sequence number of each record: what its events are named by."""
    reasons: set[str] = field(default_factory=set)
    """Why there are gaps."""


@dataclass(frozen=True)
class Verdict:
    """What a check that found nothing wrong has looked at."""

    streams: int
    replayed: int
    gaps: int
    events: int
    refused: Mapping[bytes, Counter[str]]
    """How many of which kind, by stream."""
    slowest_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.streams} streams, {self.replayed} records and {self.gaps} refused, each once,"
            f" in {self.events} events; slowest call {self.slowest_seconds * 1e3:.1f} ms"
        )


def check(
    returned: Iterable[Returned],
    recordings: Path,
    logdir: Path | None,
    *,
    may_refuse: bool = False,
    call_max_seconds: float = CALL_MAX_SECONDS,
) -> Verdict:
    """Judge; raise AssertionError, else say what was there. ``logdir`` None: recordings alone are judged.

    ``may_refuse``: the trainers' memory was too small, and gaps say so.
    """
    promised = list(returned)
    problems: list[str] = []
    found = read_recordings(recordings, problems)
    for one in promised:
        problems += _compare(one, found.get(one.stream, Found()))
        gaps = found[one.stream].reasons if one.stream in found else set()
        problems += (f"{_name(one.stream)}: a gap: {gap}" for gap in gaps - (REFUSALS if may_refuse else set()))
        if one.slowest_seconds > call_max_seconds:
            problems.append(f"{_name(one.stream)}: a call took {one.slowest_seconds:.3f} s")
    strangers = found.keys() - {one.stream for one in promised}
    problems += (f"{_name(stream)}: nobody's recording" for stream in strangers if found[stream].replayed)
    events = check_events(found, logdir, problems) if logdir else 0
    assert not problems, "\n".join(["the oracle says no:", *problems[:40], f"({len(problems)} in all)"])
    everything = list(found.values())
    return Verdict(
        len(everything),
        sum(len(one.replayed) for one in everything),
        sum(len(one.gaps) for one in everything),
        events,
        {stream: one.refused for stream, one in found.items()},
        max((one.slowest_seconds for one in promised), default=0.0),
    )


def read_recordings(root: Path, problems: list[str]) -> dict[bytes, Found]:
    """Return what a replay reads below ``root``, by stream; ``problems`` takes what is wrong with it."""
    found: defaultdict[bytes, Found] = defaultdict(Found)
    for folder in sorted({path.parent for path in root.rglob("*.segment")}):
        reader = RecordingReader(folder)
        one = found[reader.stream.id]
        while records := reader.read():
            for record in records:
                _take(one, record, f"{_name(reader.stream.id)}", problems)
        reader.close()
        problems += (f"{folder.name}: {damage}" for damage in reader.damages)
        problems += (f"{folder.name}: sequence {first} to {last} never came" for first, last in reader.holes)
    return found


def check_events(found: dict[bytes, Found], logdir: Path, problems: list[str]) -> int:
    """Tell ``problems`` what is wrong with the event files, given the recordings; return how many events there are."""
    seen: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for folder in sorted({path.parent for path in logdir.rglob("events.out.tfevents.*")}):
        for stream, sequence, place in read_event_ids(folder, problems):
            seen[stream].append((sequence, place))
    for stream in found.keys() | seen.keys():
        ids, ends = seen[stream], found[stream].ends if stream in found else set()
        problems += (f"{_name(stream)}: {what}" for what in _misplaced(ids))
        problems += _difference(stream, ends, {sequence for sequence, _ in ids}, "in the recording", "in event files")
    return sum(map(len, seen.values()))


def _take(one: Found, record: Record, name: str, problems: list[str]) -> None:
    numbers = set(range(record.sequence, record.next_sequence))
    if numbers & (one.replayed | one.gaps):
        problems.append(f"{name}: sequence {record.sequence} comes twice")
    one.ends.add(record.next_sequence - 1)
    message: Any = decode_message(record)
    if isinstance(message, Gap):
        one.gaps |= numbers
        one.refused.update(message.kinds)
        one.reasons.add(message.reason)
        return
    one.replayed |= numbers
    if isinstance(message, Scalars) and message.values.get(TAG, record.sequence) != record.sequence:
        problems.append(f"{name}: sequence {record.sequence} holds {message.values[TAG]}")


def _compare(promised: Returned, found: Found) -> Iterator[str]:
    there = found.replayed | found.gaps
    yield from _difference(promised.stream, set(promised.sequences), there - {promised.last + 1}, "promised", "there")


def _difference(stream: bytes, one: set[int], other: set[int], what: str, where: str) -> Iterator[str]:
    for missing, said, place in ((one - other, what, where), (other - one, where, what)):
        if missing:
            shown = ", ".join(map(str, sorted(missing)[:_SHOWN_MAX]))
            yield f"{_name(stream)}: {len(missing)} numbers are {said} and not {place}: {shown} ... {max(missing)}"


def _misplaced(ids: list[tuple[int, int]]) -> Iterator[str]:
    """Yield what is wrong with the events of a stream in the order of writing: each once, and in order."""
    twice = [identity for identity, times in Counter(ids).items() if times > 1]
    if twice:
        yield f"{len(twice)} events come twice: {twice[:_SHOWN_MAX]}"
    elif ids != sorted(ids):
        yield "events are out of order"
    places = Counter(sequence for sequence, _ in ids)
    last: dict[int, int] = {}
    for sequence, place in ids:
        last[sequence] = max(place, last.get(sequence, 0))
    torn = [sequence for sequence, number in places.items() if last[sequence] + 1 > number]
    if torn:
        yield f"events of {len(torn)} records are missing: {torn[:_SHOWN_MAX]}"


def _name(stream: bytes) -> str:
    return f"stream {stream.hex()[:8]}"
