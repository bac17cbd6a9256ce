from pathlib import Path

import pytest
from support.records.events import event_files
from support.records.recordings import (
    START_NS,
    Said,
    append_records,
    every_kind,
    make_records,
    make_stream,
    write_recording,
)

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record


def test_a_whole_recording_and_its_event_files_are_complete(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "recordings", every_kind((1, 2)))
    replay([folder], tmp_path / "log")
    for path, count in ((tmp_path / "recordings", 1), (folder, 1), (tmp_path / "log", 5), (tmp_path, 6)):
        found = verify(path)
        assert not found.lossy
        assert str(found).count("complete") == count


def test_a_recording_with_a_gap_is_lossy_and_so_are_its_event_files(tmp_path: Path) -> None:
    gap = Record(Kind.GAP, 2, 0, START_NS, encode_body(Gap("outbox full")), 3)
    append_records(
        tmp_path / "recordings" / "demo", make_stream(), [*make_records([Said(0, Scalars({"a": 1.0}))]), gap]
    )
    replay([tmp_path / "recordings"], tmp_path / "log")
    assert verify(tmp_path / "recordings").lossy
    found = verify(tmp_path / "log")
    assert found.lossy
    assert "records 2 to 4" in str(found)


def test_event_files_with_a_damaged_byte_are_lossy(tmp_path: Path) -> None:
    replay([write_recording(tmp_path / "recordings", every_kind((1,)))], tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert verify(tmp_path / "log").lossy


def test_event_files_torn_by_a_kill_and_completed_are_complete(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "recordings", every_kind((1,)))
    replay([folder], tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    path.write_bytes(path.read_bytes()[:-7])
    replay([folder], tmp_path / "log")
    found = verify(tmp_path / "log")
    assert not found.lossy
    assert "a torn write" in str(found)


def test_event_files_copied_into_one_folder_twice_are_lossy(tmp_path: Path) -> None:
    replay([write_recording(tmp_path / "recordings", every_kind((1,)))], tmp_path / "log")
    (path,) = event_files(tmp_path / "log" / "demo")
    path.with_name(path.name[:-1] + "1").write_bytes(path.read_bytes())
    assert "comes twice" in str(verify(tmp_path / "log"))


def test_a_recording_without_a_head_is_lossy(tmp_path: Path) -> None:
    (tmp_path / f"{1:020d}.segment").write_bytes(b"rubbish")
    assert verify(tmp_path).lossy


def test_where_there_is_nothing_to_verify_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        verify(tmp_path)
