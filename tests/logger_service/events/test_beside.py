"""Events in folders that messages name: once each, whatever fails, at most so many folders, and inside the run."""

import errno
import shutil
from pathlib import Path

import pytest
from support.records.events import event_files, folder_bytes, id_of, load_folder
from support.records.recordings import START_NS, STREAM_ID, make_stream

from tensorboard_sidecar.logger_service.events import beside
from tensorboard_sidecar.logger_service.events.beside import LeftOut, write_beside
from tensorboard_sidecar.logger_service.events.event_file import EventFile
from tensorboard_sidecar.logger_service.events.identity import BESIDE_PLACE
from tensorboard_sidecar.logger_service.events.to_events import BesideEvent
from tensorboard_sidecar.logger_service.events.to_events import beside as beside_events
from tensorboard_sidecar.protocol.messages import Overlay
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.stream import Stream

S = 10**9


def events(sequence: int, *folders: str) -> dict[str, list[BesideEvent]]:
    """Return the events of an overlay, by folder."""
    record = Record(Kind.OVERLAY, sequence, sequence, START_NS + sequence * S, b"")
    message = Overlay("loss", {folder: float(sequence) for folder in folders})
    return {event.folder: [event] for event in beside_events(message, record, STREAM_ID)}


def write(logdir: Path, *batches: dict[str, list[BesideEvent]], stream: Stream | None = None) -> list[LeftOut]:
    """Write batches by a writer of its own, as after a restart."""
    run = EventFile(logdir, stream or make_stream())
    return [left_out for batch in batches for left_out in write_beside(run, batch, START_NS)]


def points(folder: Path) -> list[tuple[int, float]]:
    return [(event.step, event.summary.value[0].simple_value) for event in load_folder(folder)]


def test_each_folder_has_its_curve(tmp_path: Path) -> None:
    assert write(tmp_path, events(2, "loss_train", "loss_val"), events(3, "loss_train"), events(4, "deep/er")) == []
    assert points(tmp_path / "demo" / "loss_train") == [(2, 2.0), (3, 3.0)]
    assert points(tmp_path / "demo" / "loss_val") == [(2, 2.0)]
    assert points(tmp_path / "demo" / "deep" / "er") == [(4, 4.0)]
    assert [id_of(event) for event in load_folder(tmp_path / "demo" / "loss_train")] == [
        f"{STREAM_ID.hex()}/{sequence}/{BESIDE_PLACE}" for sequence in (2, 3)
    ]
    assert [path.name for path in event_files(tmp_path / "demo" / "loss_train")] == [
        f"events.out.tfevents.{START_NS // S}.0000.00010203.0000"
    ]


def test_an_event_is_written_once_also_after_restarts(tmp_path: Path) -> None:
    write(tmp_path, events(2, "a", "b"), events(3, "a"))
    before = folder_bytes(tmp_path)
    write(tmp_path, events(2, "a", "b"), events(3, "a"))
    write(tmp_path, events(3, "a"))
    assert folder_bytes(tmp_path) == before


def test_after_a_kill_at_any_byte_every_event_of_a_folder_is_there_once(tmp_path: Path) -> None:
    batches = [{"a": events(2, "a")["a"] + events(3, "a")["a"] + events(4, "a")["a"]}]
    write(tmp_path / "whole", *batches)
    (path,) = event_files(tmp_path / "whole" / "demo" / "a")
    data = path.read_bytes()
    for size in range(len(data)):
        torn = tmp_path / "cut" / "demo" / "a" / path.name
        torn.parent.mkdir(parents=True)
        torn.write_bytes(data[:size])
        write(tmp_path / "cut", *batches)
        assert points(torn.parent) == [(2, 2.0), (3, 3.0), (4, 4.0)]
        shutil.rmtree(tmp_path / "cut")


def test_many_curves_that_take_turns_keep_their_files(tmp_path: Path) -> None:
    """A folder that is dropped from memory begins a new file when it comes again."""
    folders = [f"loss_{number}" for number in range(100)]
    write(tmp_path, *(events(sequence, *folders) for sequence in (2, 3, 4)))
    assert [len(event_files(tmp_path / "demo" / folder)) for folder in folders] == [1] * 100


def test_a_stream_has_a_bounded_number_of_folders_and_those_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "FOLDERS_MAX", 3)
    assert write(tmp_path, events(2, "a", "b/c")) == []
    for _ in range(2):  # in the same process as after a restart
        left_out = write(tmp_path, events(3, "a", "d", "e", "f"), events(4, "b/c", "d", "g"))
        assert [(events, reason.partition(":")[0]) for events, reason in left_out] == [(1, "e"), (1, "f"), (1, "g")]
    assert points(tmp_path / "demo" / "a") == [(2, 2.0), (3, 3.0)]
    assert points(tmp_path / "demo" / "b" / "c") == [(2, 2.0), (4, 4.0)]
    assert points(tmp_path / "demo" / "d") == [(3, 3.0), (4, 4.0)]
    assert not any((tmp_path / "demo" / folder).exists() for folder in "efg")
    other = make_stream(attempt=1, stream_id=b"\1" * 16)
    assert write(tmp_path, events(2, "x", "y", "z"), stream=other) == []


def test_rows_and_folders_of_others_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "FOLDERS_MAX", 1)
    run = EventFile(tmp_path, make_stream())
    run.append([b"run"], START_NS, START_NS)
    row = run.beside("hparams-0a1b2c3d4e5f")
    row.append([b"row"], START_NS, START_NS)
    (tmp_path / "demo" / "empty" / ".hidden").mkdir(parents=True)
    write(tmp_path, events(2, "other"), stream=make_stream(attempt=1, stream_id=b"\1" * 16))
    assert run.count_beside(100) == 0
    assert write(tmp_path, events(2, "a")) == []
    assert run.count_beside(100) == 1
    assert run.count_beside(1) == 0, "only so many folders are looked into"


def test_late_events_of_a_folder_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    later = EventFile(tmp_path, make_stream(attempt=1, stream_id=b"\1" * 16))
    write_beside(later, events(9, "a"), START_NS + 100 * S)
    write(tmp_path, events(9, "a"))
    assert points(tmp_path / "demo" / "a" / "attempt-0") == [(9, 9.0)]
    assert EventFile(tmp_path, make_stream()).count_beside(100) == 1


def test_a_file_in_the_way_costs_its_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "taken").write_text("a checkpoint")
    left_out = write(tmp_path, events(2, "a", "taken", "taken/below", "z"))
    assert [reason for _, reason in left_out] == [
        f"{name}: a file is in the way of the folder" for name in ("taken", "taken/below")
    ]
    assert points(tmp_path / "demo" / "a") == points(tmp_path / "demo" / "z") == [(2, 2.0)]
    assert (tmp_path / "demo" / "taken").read_text() == "a checkpoint"


def test_folders_stay_inside_of_the_log_directory(tmp_path: Path) -> None:
    outside, logdir = tmp_path / "outside", tmp_path / "log"
    outside.mkdir()
    (logdir / "demo").mkdir(parents=True)
    (logdir / "demo" / "a").symlink_to(outside)
    for folder in ("a", "a/b"):
        with pytest.raises(PermissionError, match="outside"):
            write(logdir, events(2, folder))
    assert not list(outside.iterdir())


def test_a_folder_is_durable_before_its_events_count_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sick(_: int) -> None:
        raise OSError(errno.EIO, "sick disk")

    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.event_file.os.fsync", sick)
        with pytest.raises(OSError, match="sick disk"):
            write(tmp_path, events(2, "a"))
    write(tmp_path, events(2, "a"))
    assert points(tmp_path / "demo" / "a") == [(2, 2.0)]


def test_the_suffix_of_the_run_ends_the_names_in_its_folders(tmp_path: Path) -> None:
    run = EventFile(tmp_path, make_stream())
    run.suffix = "_mine"
    write_beside(run, events(2, "a"), START_NS)
    (path,) = event_files(tmp_path / "demo" / "a")
    assert path.name.endswith(".0000_mine")
