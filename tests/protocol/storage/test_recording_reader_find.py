from pathlib import Path

import pytest
from support.records.recordings import Said, append_records, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.storage.recording_reader import find_recordings, require_recordings

SAID = [Said(1, Scalars({"a": 1.0}))]


def test_recordings_are_found_at_any_depth_in_order(tmp_path: Path) -> None:
    folders = [write_recording(tmp_path, SAID, make_stream(run)) for run in ("b", "a/b/c", "a")]
    assert [folder for folder, _ in find_recordings(tmp_path)] == sorted(folders)
    assert [folder for folder, _ in find_recordings(folders[0])] == [folders[0]]


def test_the_token_changes_when_a_recording_grows(tmp_path: Path) -> None:
    records = make_records(SAID * 3)
    folder = append_records(tmp_path, make_stream(), records[:1])
    tokens = [next(find_recordings(tmp_path))]
    append_records(folder, make_stream(), records[1:2])
    tokens.append(next(find_recordings(tmp_path)))
    append_records(folder, make_stream(), records[2:], segment_size_max_bytes=1)
    tokens.append(next(find_recordings(tmp_path)))
    assert len(set(tokens)) == 3


def test_other_files_and_links_are_passed_over(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "real", SAID)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "notes.txt").touch()
    (tmp_path / "root" / "linked").symlink_to(folder)
    assert not list(find_recordings(tmp_path / "root"))


def test_a_file_that_is_called_segment_and_is_none_is_passed_over(tmp_path: Path) -> None:
    """Beside a recording and in folders of its own; verify and replay of all that would else end there."""
    folder = write_recording(tmp_path, SAID)
    (tmp_path / "z").mkdir()
    for other in (folder / "notes.segment", tmp_path / "z" / "notes.segment", tmp_path / "z" / f"{1:021d}.segment"):
        other.write_text("mine")
    (tmp_path / "z" / f"{1:020d}.segment").symlink_to(folder)
    (folder / "linked.segment").symlink_to("nowhere")
    segment = folder / f"{1:020d}.segment"
    assert list(find_recordings(tmp_path)) == [(folder, (segment.name, segment.stat().st_size))]
    assert not verify(tmp_path).lossy


def test_a_recording_named_twice_is_one(tmp_path: Path) -> None:
    folder = write_recording(tmp_path, SAID)
    assert require_recordings([tmp_path, folder]) == [folder]


def test_where_nothing_is_the_path_is_named(tmp_path: Path) -> None:
    write_recording(tmp_path / "one", SAID)
    with pytest.raises(FileNotFoundError, match="other"):
        require_recordings([tmp_path / "one", tmp_path / "other"])
