"""Contents of recordings, and their description."""

from pathlib import Path

import pytest
from support.records.recordings import (
    START_NS,
    Said,
    append_records,
    every_kind,
    make_records,
    make_stream,
    write_recording,
)

from tensorboard_sidecar.logger_service.offline.inspection import GapRange, inspect, kind_title, read_contents
from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record

SCALARS = [Said(step, Scalars({"a": 1.0})) for step in range(10)]


def test_a_whole_recording_is_counted_by_kind(tmp_path: Path) -> None:
    found = read_contents(write_recording(tmp_path, every_kind((1, 2)), segment_size_max_bytes=2**12))
    assert found.records["scalars"] == 2
    assert found.records["embedding"] == 4
    assert found.records.total() == found.last_sequence == len(every_kind((1, 2)))
    assert (found.first_step, found.last_step, found.status) == (0, 2, "completed")
    assert (found.first_time_ns, found.last_time_ns) == (START_NS + 10**9, START_NS + found.last_sequence * 10**9)
    assert found.segments > 1
    assert found.size_bytes == sum(path.stat().st_size for path in found.folder.iterdir())
    assert not found.lossy


def test_gaps_holes_damage_and_malformed_messages_are_each_a_loss(tmp_path: Path) -> None:
    gap = Record(Kind.GAP, 11, 0, START_NS, encode_body(Gap("full", {"matrix": 2})), 2)
    folders = {
        "gap": [*make_records(SCALARS), gap],
        "hole": make_records(SCALARS)[:3] + make_records(SCALARS)[5:],
        "malformed": [Record(Kind.SCALARS, 1, 0, START_NS, b"\xc1")],
    }
    found = {
        name: read_contents(append_records(tmp_path / name, make_stream(), said)) for name, said in folders.items()
    }
    assert all(one.lossy for one in found.values())
    assert found["gap"].gaps == [GapRange(11, 12, "full", {"matrix": 2})]
    assert found["gap"].last_sequence == 12
    assert found["hole"].holes == [(4, 5)]
    assert found["malformed"].malformed[0].startswith("sequence 1 (scalars): ")


def test_a_flipped_bit_in_a_record_is_damage(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SCALARS)
    (segment,) = folder.iterdir()
    data = bytearray(segment.read_bytes())
    data[-100] ^= 1
    segment.write_bytes(data)
    found = read_contents(folder)
    assert found.lossy
    assert found.damages


def test_a_torn_end_is_unfinished_and_no_loss(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SCALARS)
    (segment,) = folder.iterdir()
    segment.write_bytes(segment.read_bytes()[:-3])
    found = read_contents(folder)
    assert found.last_sequence == 9
    assert not found.lossy


def test_an_unknown_kind_is_counted_and_no_loss(tmp_path: Path) -> None:
    found = read_contents(append_records(tmp_path / "a", make_stream(), [Record(200, 1, 0, START_NS, b"?")]))
    assert found.records == {"unknown kind 200": 1}
    assert not found.lossy


@pytest.mark.parametrize(("kind", "title"), [(Kind.TENSOR_SUMMARIES, "tensor summaries"), (77, "unknown kind 77")])
def test_kinds_have_titles(kind: int, title: str) -> None:
    assert kind_title(kind) == title


def test_a_recording_is_described(tmp_path: Path) -> None:
    said = every_kind((1, 2))
    folder = write_recording(tmp_path, said, make_stream("team/first", rank=1, attempt=2))
    text = inspect([tmp_path])
    end_seconds = 20 + len(said)  # the run starts at 22:13:20; a record a second
    assert text.splitlines()[:7] == [
        str(folder),
        "  run        team/first",
        "  stream     000102030405060708090a0b0c0d0e0f, attempt 2, rank 1",
        "  status     completed",
        f"  time       2023-11-14 22:13:21 UTC to 2023-11-14 22:13:{end_seconds} UTC",
        "  steps      0 to 2",
        f"  sequence   1 to {len(said)}",
    ]
    assert "  embedding                     4 records" in text


def test_losses_are_told_the_first_of_each_sort_by_name(tmp_path: Path) -> None:
    said = [Said(step, Scalars({"a": 1.0})) for step in range(40)]
    holed = [record for record in make_records(said) if record.sequence % 2]
    gap = Record(Kind.GAP, 41, 0, START_NS, encode_body(Gap("outbox full", {"matrix": 7})), 7)
    lines = inspect([append_records(tmp_path / "recording", make_stream(), [*holed, gap])]).splitlines()
    assert "  gap: 7 records, sequence 41 to 47: outbox full, 7 matrix" in lines
    assert "  hole: sequence 2 to 2 is missing" in lines
    assert sum(line.startswith("  hole") for line in lines) == 10
    assert "  ... and 10 more" in lines


def test_what_a_recording_says_moves_no_cursor(tmp_path: Path) -> None:
    gap = Record(Kind.GAP, 1, 0, START_NS, encode_body(Gap("full\x1b[2J\r  status     completed", {"\x9b31m": 7})), 7)
    folder = append_records(tmp_path / "recording", make_stream(), [gap])
    for text in (inspect([folder]), str(verify(folder))):
        assert all(line.isprintable() for line in text.splitlines())
        assert "full\\x1b[2J\\r  status     completed, 7 \\x9b31m" in text


@pytest.mark.parametrize("wall_time_ns", [-(2**63), -1, 0, 2**63 - 1])
def test_any_time_is_described(tmp_path: Path, wall_time_ns: int) -> None:
    record = Record(Kind.SCALARS, 1, 0, wall_time_ns, encode_body(Scalars({"a": 1.0})))
    assert "  time       " in inspect([append_records(tmp_path / "recording", make_stream(), [record])])


def test_steps_before_the_first_are_described(tmp_path: Path) -> None:
    said = [Said(step, Scalars({"a": 1.0})) for step in (-7, -2)]
    assert "  steps      -7 to -2" in inspect([write_recording(tmp_path, said)])


def test_a_run_without_an_end_says_so(tmp_path: Path) -> None:
    text = inspect([write_recording(tmp_path, every_kind((1,))[:-1])])
    assert "no end of run" in text


def test_a_recording_without_a_head_is_named_and_the_others_described(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{1:020d}.segment").write_bytes(b"rubbish")
    write_recording(tmp_path, every_kind((1,)))
    text = inspect([tmp_path])
    assert "not readable" in text
    assert "  run        demo" in text
