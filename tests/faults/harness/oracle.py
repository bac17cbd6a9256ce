"""The judge of every fault: what was promised, against what is there.

It holds three things side by side: the calls that came back (diaries, which no fault touches), the records and gaps
that a replay reads in the recordings, and the events on disk, read by the letter of the format. ``check`` raises
AssertionError with all that is wrong:

- a sequence number was promised and is neither replayed nor told as a gap, or the other way round (one record may stand
  behind the last promise of a trainer: of the call that a kill caught before it came back);
- a number is told as a gap where nothing was to be refused, or for another reason than that;
- a record is not the one that its call was given;
- an event is missing, comes twice, comes late, or has a wrong checksum; how many events a record has is said here, but
  for findings, which the events of their record announce: each announced one is there, and no other, and each run that
  ended has them;
- a call kept its caller waiting, or the start did, or an end in order passed its deadline.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from faults.harness.diary import TAG, Returned
from faults.harness.event_ids import Written, read_written

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import Event, Gap, HParams, Message, Overlay, RunEnd, RunStart, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader

T = TypeVar("T", int, tuple[int, int], tuple[int, str])

# A call takes tens of microseconds. Only a bug, something waited for, makes it this, on however busy a machine.
CALL_MAX_SECONDS: Final = 1.0
# The start makes its memory and its folders, some milliseconds; what it must not wait for is a logger.
START_MAX_SECONDS: Final = 5.0
# Why a number may be a gap when memory was too small; the second where the trainer was killed before it could tell.
REFUSALS: Final = {
    "the outbox was full",
    "lost with the trainer: still on a device, or refused by a full outbox",
}
_SHOWN_MAX: Final = 5
_ROW: Final = re.compile("hparams-[0-9a-f]{12}")
_LATE: Final = re.compile(r"(/attempt-\d+)+$")
# In the place of the folder of a row, whose name is a digest.
ROW: Final = "hparams"
# The least place of an event in a folder in the run's folder.
_BESIDE: Final = 100_000_000
# A stream has 1,000 folders: beyond, events are left out.
_FOLDERS_EXACT_MAX: Final = 1_000
# A trainer that logs nothing sends the start and the end of its run.
_SILENT_MAX: Final = 2


@dataclass
class Found:
    """What is there of one stream: sequence numbers that are replayed, those told as gaps, and by kind how many."""

    replayed: set[int] = field(default_factory=set)
    gaps: set[int] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    events: set[tuple[int, int]] = field(default_factory=set)
    """What is due in event files: the last sequence number of a record, and the place of each of its events."""
    ends: set[int] = field(default_factory=set)
    """The ends of the run, which have findings, if only to say that nothing was found."""
    beside: set[tuple[int, str]] = field(default_factory=set)
    """What is due in folders in the run's folder: the last sequence number of a record, and the folder; ROW: a row."""
    foreign: set[tuple[int, str]] = field(default_factory=set)
    """What may be there as well: bytes of another program in a folder, which may be no event."""
    reasons: set[str] = field(default_factory=set)
    """Why there are gaps."""
    malformed: set[int] = field(default_factory=set)
    """Records whose body says nothing."""
    shows: bool = False
    """Whether there is more than the start and the end of a run, which alone are not shown."""


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
    call_max_seconds: float = CALL_MAX_SECONDS,
) -> Verdict:
    """Judge; raise AssertionError, else say what was there. ``logdir`` None: recordings alone are judged."""
    promised = list(returned)
    problems: list[str] = []
    found = read_recordings(recordings, problems)
    for one in promised:
        problems += (
            f"{_name(one.stream)}: {what}"
            for what in (
                *_compare(one, found.get(one.stream, Found())),
                *_waited(one, call_max_seconds),
            )
        )
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
    seen: defaultdict[bytes, list[Written]] = defaultdict(list)
    beside: defaultdict[bytes, list[tuple[int, str]]] = defaultdict(list)
    for folder in sorted({path.parent for path in logdir.rglob("events.out.tfevents.*")}):
        for written in read_written(folder, problems):
            stream, sequence, place = written[:3]
            if _ROW.fullmatch(folder.name):
                beside[stream].append((sequence, ROW))
            elif place >= _BESIDE:
                beside[stream].append((sequence, _LATE.sub("", folder.relative_to(logdir).as_posix())))
            else:
                seen[stream].append(written)
    for stream in found.keys() | seen.keys() | beside.keys():
        one = found[stream] if stream in found else Found()
        ids = [(written.sequence, written.place) for written in seen[stream]]
        due = one.events | _due_findings(one, seen[stream]) if one.shows else set()
        wrong = [*_misplaced(ids), *_difference("events", due, set(ids), "due", "in event files")]
        wrong += [*_misannounced(seen[stream]), *_beside(one, beside[stream])]
        problems += (f"{_name(stream)}: {what}" for what in wrong)
    return sum(map(len, (*seen.values(), *beside.values())))


def _due_findings(one: Found, written: Iterable[Written]) -> set[tuple[int, int]]:
    """Return the events of findings that are due: those that are announced, and those at the ends of the run."""
    own: Counter[int] = Counter(sequence for sequence, _ in one.events)
    return {(sequence, own[sequence]) for sequence in one.ends | {each.sequence for each in written if each.announces}}


def _misannounced(written: Iterable[Written]) -> Iterator[str]:
    """Yield what is wrong with announcements: every own event of a record with findings has one, and no other event."""
    with_findings = {each.sequence for each in written if each.findings}
    wrong = [each for each in written if each.announces is (each.findings or each.sequence not in with_findings)]
    if wrong:
        yield f"findings of {len(wrong)} events are announced and not there, or the other way round: {wrong[:3]}"


def _beside(one: Found, ids: list[tuple[int, str]]) -> Iterator[str]:
    """Yield what is wrong with the events in folders in the run's folder. A folder ends with the name that is due."""
    names = {name for _, name in one.beside | one.foreign}
    there = [
        (sequence, next((name for name in names if f"/{folder}".endswith(f"/{name}")), folder))
        for sequence, folder in ids
    ]
    yield from _misplaced(sorted(there))
    shown = set(there) - one.foreign
    due = one.beside if len(names) <= _FOLDERS_EXACT_MAX else one.beside & shown
    yield from _difference("events in folders", due, shown, "due", "in event files")


def events_of(message: Message | None) -> int:
    """Return how many events a record has: one, whatever it shows; the start of a run another one for its config."""
    return 2 if isinstance(message, RunStart) and message.config else 1


def folders_of(message: Message | None) -> list[str]:
    """Return the folders in the run's folder that a record has an event in."""
    match message:
        case HParams():
            return [message.folder or ROW]
        case Overlay():
            return list(message.values)
        case _:
            return []


def _take(one: Found, record: Record, name: str, problems: list[str]) -> None:
    numbers = set(range(record.sequence, record.next_sequence))
    if numbers & one.replayed or numbers & one.gaps:  # no union: a set of all numbers for each record is quadratic
        problems.append(f"{name}: sequence {record.sequence} comes twice")
    message: Message | None = None
    try:
        message = decode_message(record)
    except ProtocolError:
        one.malformed.add(record.sequence)
    one.shows |= record.kind not in (Kind.RUN_START, Kind.RUN_END) or record.sequence > _SILENT_MAX
    one.events |= {(record.next_sequence - 1, place) for place in range(events_of(message))}
    if isinstance(message, RunEnd) and not message.plain:
        one.ends.add(record.next_sequence - 1)
    one.beside |= {(record.next_sequence - 1, folder) for folder in folders_of(message)}
    if isinstance(message, Event) and message.folder:
        one.foreign.add((record.next_sequence - 1, message.folder))
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
    yield from _difference("numbers", set(promised.sequences), there - {promised.last + 1}, "promised", "there")
    if not promised.hostile:
        yield from (f"a gap: {gap}" for gap in found.reasons - (REFUSALS if promised.may_refuse else set()))
        yield from (f"sequence {sequence} is malformed" for sequence in sorted(found.malformed)[:_SHOWN_MAX])


def _waited(promised: Returned, call_max_seconds: float) -> Iterator[str]:
    if promised.slowest_seconds > call_max_seconds:
        yield f"a call took {promised.slowest_seconds:.3f} s"
    if promised.start_seconds > max(START_MAX_SECONDS, call_max_seconds):
        yield f"the start took {promised.start_seconds:.3f} s"


def _difference(of_what: str, one: set[T], other: set[T], what: str, where: str) -> Iterator[str]:
    for missing, said, place in ((one - other, what, where), (other - one, where, what)):
        if missing:
            shown = ", ".join(map(str, sorted(missing)[:_SHOWN_MAX]))
            yield f"{len(missing)} {of_what} are {said} and not {place}: {shown} ... {max(missing)}"


def _misplaced(ids: list[T]) -> Iterator[str]:
    """Yield what is wrong with the events of a stream in the order of writing: each once, and in order."""
    twice = [identity for identity, times in Counter(ids).items() if times > 1]
    if twice:
        yield f"{len(twice)} events come twice: {twice[:_SHOWN_MAX]}"
    elif ids != sorted(ids):
        yield "events are out of order"


def _name(stream: bytes) -> str:
    return f"stream {stream.hex()[:8]}"
