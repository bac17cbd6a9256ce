from pathlib import Path

import pytest
from support.recordings import START_NS, Said, append_records, every_kind, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.offline.contents import GapRange, kind_name, read_contents
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


@pytest.mark.parametrize(("kind", "name"), [(Kind.TENSOR_SUMMARIES, "tensor summaries"), (77, "unknown kind 77")])
def test_kinds_have_names(kind: int, name: str) -> None:
    assert kind_name(kind) == name
