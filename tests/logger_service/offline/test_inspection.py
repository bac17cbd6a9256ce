from pathlib import Path

import pytest
from support.recordings import START_NS, Said, append_records, every_kind, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.offline.inspection import inspect
from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record


def test_a_recording_is_described(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, every_kind((1, 2)), make_stream("team/first", rank=1, attempt=2))
    text = inspect([tmp_path])
    assert text.splitlines()[:7] == [
        str(folder),
        "  run        team/first",
        "  stream     000102030405060708090a0b0c0d0e0f, attempt 2, rank 1",
        "  status     completed",
        "  time       2023-11-14 22:13:21 UTC to 2023-11-14 22:13:43 UTC",
        "  steps      0 to 2",
        "  sequence   1 to 23",
    ]
    assert "  embedding                     4 records" in text


def test_losses_are_told_the_first_of_each_sort_by_name(tmp_path: Path) -> None:
    said = [Said(step, Scalars({"a": 1.0})) for step in range(40)]
    holed = [record for record in make_records(said) if record.sequence % 2]
    gap = Record(Kind.GAP, 41, 0, START_NS, encode_body(Gap("outbox full", {"matrix": 7})), 7)
    lines = inspect([append_records(tmp_path / "recording", make_stream(), [*holed, gap])]).splitlines()
    assert "  gap: 7 records, sequence 41 to 47: outbox full, 7 matrix" in lines
    assert "  hole: sequence 2 to 2 never came" in lines
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
