"""A journal that was cut, or whose bits were flipped: what is whole is shown, and what is not is told."""

import random
import shutil
from pathlib import Path

import pytest
from faults.harness.diary import TAG, Returned
from faults.harness.effort import SOAKING, rounds
from faults.harness.event_ids import read_event_ids
from faults.harness.oracle import check
from support.logger.noted_logger import NotedLogger, refused
from support.records.events import folder_bytes
from support.records.recordings import Said, append_records, make_records, make_stream

from tensorboard_sidecar.logger_service.offline.inspection import Contents, read_contents
from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.frame import Frame, read_frames
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.record import Kind, parse_sequence
from tensorboard_sidecar.protocol.storage.segment import list_segments
from tensorboard_sidecar.protocol.wire import Welcome

FLIPS = rounds(quick=40, full=2000)
QUICK_CUTS = 40
STREAM = make_stream("demo")
LAST = 12


def write_journal(root: Path, *, segment_size_max_bytes: int) -> Path:
    """Write a journal of LAST records where a logger would; return its folder."""
    records = make_records(Said(number, Scalars({TAG: float(number)})) for number in range(1, LAST + 1))
    folder = root / STREAM.run / STREAM.folder_name
    return append_records(folder, STREAM, records, segment_size_max_bytes=segment_size_max_bytes)


def records_of(path: Path) -> list[tuple[int, int, int]]:
    """Return (sequence, start, end) of each record in a segment, its head as 0."""
    found = []
    for item in read_frames(memoryview(path.read_bytes())):
        if not isinstance(item, Frame):
            break
        kind, sequence, _ = parse_sequence(item.payload)
        found.append((0 if kind == Kind.SEGMENT else sequence, item.start, item.end))
    return found


def shown(recordings: Path, logdir: Path) -> set[int]:
    """Bring event files up to date; return whose events are there. None may come twice."""
    replay([recordings], logdir)
    problems: list[str] = []
    ids = list(read_event_ids(logdir / STREAM.run, problems))
    assert not problems
    assert len(set(ids)) == len(ids)
    return {sequence for _, sequence, _ in ids}


def missing_of(found: Contents) -> set[int]:
    return {sequence for first, last in found.holes for sequence in range(first, last + 1)}


@pytest.mark.parametrize("segment_size_max_bytes", [2**20, 800], ids=["one segment", "some"])
def test_a_journal_cut_at_every_byte(tmp_path: Path, chance: random.Random, segment_size_max_bytes: int) -> None:
    """What is left is a clean prefix, and a logger goes on behind it."""
    whole = write_journal(tmp_path / "whole", segment_size_max_bytes=segment_size_max_bytes)
    last = list_segments(whole)[-1]
    data, records = last.path.read_bytes(), records_of(last.path)
    head_end = records[0][2]
    sizes = range(len(data)) if SOAKING else chance.sample(range(len(data)), QUICK_CUTS)
    for size in sizes:
        recordings = tmp_path / f"cut-{size}"
        folder = recordings / STREAM.run / STREAM.folder_name
        shutil.copytree(whole, folder)
        (folder / last.path.name).write_bytes(data[:size])
        if size < head_end and last.first_sequence == 1:
            refuse(recordings, last.path.name)
            continue
        kept = max((sequence for sequence, _, end in records if sequence and end <= size), default=0)
        kept = kept or last.first_sequence - 1
        found = read_contents(folder)
        assert (found.last_sequence, found.holes) == (kept, [])
        assert not found.damages or size < head_end
        assert shown(recordings, tmp_path / f"log-{size}") == set(range(1, kept + 1))
        go_on(recordings, kept + 1)
        assert read_contents(folder).last_sequence == LAST
        assert not verify(recordings).lossy
        if size >= head_end:  # else its head, which is no record, stays damaged
            assert shown(recordings, tmp_path / f"log-{size}") == set(range(1, LAST + 1))
            check([Returned.up_to(STREAM.id, LAST)], recordings, tmp_path / f"log-{size}")


def refuse(recordings: Path, name: str) -> None:
    """See that a journal which does not even tell whose it is stays as it is, and that this is said."""
    before = folder_bytes(recordings)
    assert refused(NotedLogger(recordings).hello(b"peer", STREAM), f"{name} begins with no segment head")
    assert verify(recordings).lossy
    assert folder_bytes(recordings) == before


def go_on(recordings: Path, next_sequence: int) -> None:
    """Have the trainer, which still holds what was not there, send it."""
    logger = NotedLogger(recordings)
    assert logger.hello(b"peer", STREAM) == [Welcome(next_sequence, CREDIT_BYTES)]
    logger.data(b"peer", next_sequence, LAST + 1)
    logger.wait()


@pytest.mark.parametrize("segment_size_max_bytes", [2**20, 800], ids=["one segment", "some"])
def test_bits_that_flip(tmp_path: Path, chance: random.Random, segment_size_max_bytes: int) -> None:
    """Only the record that is hit is lost, and it is told where."""
    whole = write_journal(tmp_path / "whole", segment_size_max_bytes=segment_size_max_bytes)
    segments = list_segments(whole)
    for number in range(FLIPS):
        segment = chance.choice(segments)
        data = bytearray(segment.path.read_bytes())
        at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
        (hit,) = [sequence for sequence, start, end in records_of(segment.path) if start <= at < end]
        recordings = tmp_path / f"flip-{number}"
        folder = recordings / STREAM.run / STREAM.folder_name
        shutil.copytree(whole, folder)
        (folder / segment.path.name).write_bytes(data)
        found = read_contents(folder)
        name = f"{segment.path.name} byte {at:,} of record {hit}"
        assert len(found.damages) == 1, name
        assert found.damages[0].startswith(f"{segment.path.name} at byte "), name
        assert verify(recordings).lossy, name
        assert missing_of(found) == ({hit} - {0, LAST}), name
        left = set(range(1, LAST + 1)) - ({hit} if hit == LAST else set())
        assert shown(recordings, tmp_path / f"log-{number}") == left, f"{name}: a gap stands for it"
