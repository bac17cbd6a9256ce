"""Where there is something to judge: every run once, and a line about each place that cannot be read."""

import os
from pathlib import Path

import pytest
from support.records.foreign_files import curve, write_events
from support.records.recordings import Said, append_records, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.doctor.places import UNREAD_MAX, Places, find_places
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.names import RECORDING_NAME

SAID = [Said(step, Scalars({"loss": float(step)})) for step in range(3)]
DAY_NS = 24 * 3600 * 10**9


def names(places: Places) -> list[str]:
    return sorted([*(one.run for one in places.streams), *(one.run for one in places.folders)])


def parts(places: Places) -> dict[str, str]:
    return {one.run: one.part for one in places.folders}


def stream_id(number: int) -> bytes:
    return bytes([number]) * 16


def test_event_files_at_any_depth_are_runs_named_as_tensorboard_names_them(tmp_path: Path) -> None:
    for run in (".", "a", "a/b/c"):
        write_events(tmp_path / "logs" / run, curve("loss", [1.0]))
    assert names(find_places([tmp_path / "logs"])) == ["a", "a/b/c", "logs"]
    assert names(find_places([tmp_path / "logs" / "a" / "b"])) == ["c"]


def test_a_path_inside_of_another_adds_no_run(tmp_path: Path) -> None:
    write_events(tmp_path / "a", curve("loss", [1.0]))
    write_recording(tmp_path / "recordings", SAID)
    assert names(find_places([tmp_path, tmp_path / "a", tmp_path / "recordings", tmp_path])) == ["a", "demo"]


def test_paths_of_files_are_their_run_and_a_folder_beside_adds_the_others(tmp_path: Path) -> None:
    """As a shell gives them for ``run/events*``."""
    files = [write_events(tmp_path / "a", curve("loss", [1.0]), name) for name in ("1", "2", "3")]
    assert [tuple(one) for one in find_places(files[:2]).folders] == [("a", tuple(files[:2]), "")]
    assert [tuple(one) for one in find_places([files[1], tmp_path]).folders] == [("a", tuple(files), "")]


def test_a_recording_is_judged_rather_than_the_event_files_made_of_it(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", SAID)
    write_recording(tmp_path / "others", SAID, make_stream("other", stream_id=stream_id(9)))
    replay([tmp_path / "recordings", tmp_path / "others"], tmp_path / "runs")
    places = find_places([tmp_path / "runs", tmp_path / "recordings"])
    assert [one.run for one in places.streams] == ["demo"]
    assert [one.run for one in places.folders] == ["other"]
    write_events(tmp_path / "runs" / "demo", curve("loss", [1.0]))  # another program writes there too
    assert names(find_places([tmp_path / "runs", tmp_path / "recordings"])) == ["demo", "demo", "other"]


def test_the_log_dir_of_a_summary_writer_is_one_run_with_the_name_of_its_folder(tmp_path: Path) -> None:
    log_dir = tmp_path / "runs" / "team" / "first"
    folder = write_recording(log_dir / RECORDING_NAME, SAID, make_stream("run"))
    replay([folder], log_dir)
    assert list(log_dir.glob("events.*"))
    assert names(find_places([tmp_path / "runs"])) == ["team/first"]
    assert names(find_places([log_dir])) == ["first"]


def test_attempts_are_in_order_and_the_last_counts(tmp_path: Path) -> None:
    for number, attempt in enumerate((0, 1, 0)):  # a start, its resumption, and a fresh start a day later
        stream = make_stream(attempt=attempt, stream_id=stream_id(number))
        records = make_records(SAID, start_ns=1_700_000_000 * 10**9 + (number // 2) * DAY_NS + number * 10**12)
        append_records(tmp_path / "demo" / stream.folder_name, stream, records)
    places = find_places([tmp_path])
    assert [one.beginning.stream.id[0] for one in places.streams] == [0, 1, 2]
    assert [one.superseded for one in places.streams] == [True, True, False]


def test_a_process_that_the_resumed_run_does_not_have_counts_no_more(tmp_path: Path) -> None:
    for number, (rank, attempt) in enumerate(((0, 0), (1, 0), (0, 1))):
        stream = make_stream(rank=rank, attempt=attempt, stream_id=stream_id(number))
        records = make_records(SAID, start_ns=1_700_000_000 * 10**9 + attempt * DAY_NS)
        append_records(tmp_path / "demo" / stream.folder_name, stream, records)
    found = {
        (one.beginning.stream.rank, one.beginning.stream.attempt): one.superseded
        for one in find_places([tmp_path]).streams
    }
    assert found == {(0, 0): True, (1, 0): True, (0, 1): False}


def test_runs_of_one_name_in_two_folders_are_two(tmp_path: Path) -> None:
    for number, home in enumerate(("a", "b")):
        write_recording(tmp_path / home, SAID, make_stream(stream_id=stream_id(number)))
    places = find_places([tmp_path / "a", tmp_path / "b"])
    assert names(places) == [str(tmp_path / "a" / "demo"), str(tmp_path / "b" / "demo")]
    assert not any(one.superseded for one in places.streams)


def test_folders_of_one_name_below_two_paths_are_two_runs(tmp_path: Path) -> None:
    for home in ("a", "b"):
        write_events(tmp_path / home / "version_0", curve("loss", [1.0]))
    assert names(find_places([tmp_path / "a", tmp_path / "b"])) == [
        str(tmp_path / "a" / "version_0"),
        str(tmp_path / "b" / "version_0"),
    ]


def test_validation_beside_training_is_a_part_of_it(tmp_path: Path) -> None:
    for run in ("keras/train", "keras/validation", "writer", "writer/loss_train", "writer/loss_val", "test"):
        write_events(tmp_path / run, curve("loss", [1.0]))
    assert {run: part for run, part in parts(find_places([tmp_path])).items() if part} == {
        "keras/validation": "validation/",
        "writer/loss_val": "loss_val/",
    }


@pytest.mark.parametrize("name", ["nothing", "file", "empty"])
def test_a_path_without_anything_to_judge_is_named(tmp_path: Path, name: str) -> None:
    write_events(tmp_path / "good", curve("loss", [1.0]))
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"neither recordings nor event files at or below .*{name}"):
        find_places([tmp_path / "good", tmp_path / name])


def test_what_is_no_file_is_said_and_never_opened(tmp_path: Path) -> None:
    """An open of a pipe would wait for its writer."""
    write_events(tmp_path / "good", curve("loss", [1.0]))
    os.mkfifo(tmp_path / "good" / "events.out.tfevents.pipe")
    (tmp_path / "good" / "events.out.tfevents.nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "good" / "events.out.tfevents.folder").mkdir()
    places = find_places([tmp_path])
    assert [len(one.files) for one in places.folders] == [1]
    assert sorted(one.reason for one in places.unread) == [
        "events.out.tfevents.nowhere cannot be read: No such file or directory",
        "events.out.tfevents.pipe is no file",
    ]


def test_links_are_followed_once_and_a_circle_ends(tmp_path: Path) -> None:
    write_events(tmp_path / "logs" / "run-7", curve("loss", [1.0]))
    write_events(tmp_path / "elsewhere" / "run", curve("loss", [1.0]))
    (tmp_path / "logs" / "latest").symlink_to("run-7")
    (tmp_path / "logs" / "circle").symlink_to(tmp_path / "logs")
    (tmp_path / "logs" / "other").symlink_to(tmp_path / "elsewhere")
    assert names(find_places([tmp_path / "logs"])) == ["other/run", "run-7"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_said_and_the_others_are_judged(tmp_path: Path) -> None:
    write_events(tmp_path / "good", curve("loss", [1.0]))
    write_events(tmp_path / "closed", curve("loss", [1.0]))
    (tmp_path / "closed").chmod(0)
    places = find_places([tmp_path])
    (tmp_path / "closed").chmod(0o700)
    assert names(places) == ["good"]
    assert [(one.run, one.reason) for one in places.unread] == [
        ("closed", "the folder cannot be read: Permission denied")
    ]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_events(tmp_path / "good", curve("loss", [1.0]))
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(folder: str) -> object:
        if Path(folder).name == "closed":
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    places = find_places([tmp_path])
    assert names(places) == ["good"]
    assert [tuple(one) for one in places.unread] == [("closed", "*", "the folder cannot be read: Permission denied")]


def test_a_name_of_odd_bytes_is_shown(tmp_path: Path) -> None:
    write_events(Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff")), curve("loss", [1.0]))
    assert names(find_places([tmp_path])) == ["odd\\xff"]


def test_a_recording_without_a_head_is_said(tmp_path: Path) -> None:
    write_recording(tmp_path, SAID)
    (tmp_path / "bad").mkdir()
    for number in range(UNREAD_MAX + 5):
        folder = tmp_path / "bad" / str(number)
        folder.mkdir()
        (folder / f"{1:020d}.segment").write_bytes(b"no head")
    places = find_places([tmp_path])
    assert names(places) == ["demo"]
    assert len(places.unread) == UNREAD_MAX
    assert "is not readable" in places.unread[0].reason


def test_markers_of_the_embedding_projector_are_no_event_files(tmp_path: Path) -> None:
    write_events(tmp_path / "good", curve("loss", [1.0]))
    write_events(tmp_path / "marker", [], "1700000000.projector")
    assert names(find_places([tmp_path])) == ["good"]
