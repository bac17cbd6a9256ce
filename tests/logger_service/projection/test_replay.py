import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.events import event_files, folder_bytes, id_of, load_folder
from support.recordings import START_NS, Said, append_records, every_kind, make_records, make_stream, write_recording

from tensorboard_sidecar.logger_service.projection.counts import Counts
from tensorboard_sidecar.logger_service.projection.replay import Replayed, replay
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import RunStart, Scalars, SegmentHead
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record

HOSTILE_RUNS = [
    "../escape",
    "/etc",
    "a/../../b",
    "a//b",
    ".",
    "..",
    ".hidden",
    "a\0b",
    "a\nb",
    "C:\\x",
    "x" * 600,
    "a/./b",
    "",
]


def test_a_replay_tells_what_it_wrote(tmp_path: Path) -> None:
    folder = write_recording(tmp_path / "recordings", every_kind((1,)))
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "log")
    assert (replayed.folder, replayed.counts.records) == (folder, len(every_kind((1,))))
    records = len(every_kind((1,)))  # the start of the run has two events
    assert str(replayed).startswith(f"{folder}: {records} records, {records + 1} events")


def test_a_second_replay_writes_nothing_and_says_so(tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", every_kind((1,)))
    replay([tmp_path / "recordings"], tmp_path / "log")
    before = folder_bytes(tmp_path / "log")
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "log")
    assert replayed.counts == Counts()
    assert str(replayed).endswith("already there, 0 new records")
    assert folder_bytes(tmp_path / "log") == before


def test_a_replay_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    records = make_records(every_kind((1, 2)))
    folder = append_records(tmp_path / "recording", make_stream(), records[:9])
    replay([folder], tmp_path / "log")
    append_records(folder, make_stream(), records[9:])
    (replayed,) = replay([folder], tmp_path / "log")
    assert replayed.counts.records == len(records) - 9
    replay([folder], tmp_path / "whole")
    assert load_folder(tmp_path / "log" / "demo") == load_folder(tmp_path / "whole" / "demo")


def test_attempts_follow_each_other_whatever_their_folders_are_called(tmp_path: Path) -> None:
    """TensorBoard reads the files of a run by name: the later attempt must come later."""
    for attempt, late_ns in ((2, 0), (0, 10**12), (1, 5 * 10**11)):
        stream = make_stream(attempt=attempt, stream_id=bytes([9 - attempt]) * 16)
        records = make_records([Said(attempt, RunStart(attempt))], start_ns=START_NS + late_ns)
        append_records(tmp_path / "recordings" / str(2 - attempt), stream, records)
    replay([tmp_path / "recordings"], tmp_path / "log")
    assert [path.name.split(".")[4] for path in event_files(tmp_path / "log" / "demo")] == ["0000", "0001", "0002"]
    assert [event.step for event in load_folder(tmp_path / "log" / "demo")] == [0, 2, 3]


def test_two_recordings_of_one_stream_are_written_once(tmp_path: Path) -> None:
    """A journal, and what was left of the trainer's outbox."""
    records = make_records([Said(step, Scalars({"a": 1.0})) for step in range(10)])
    append_records(tmp_path / "recordings" / "journal", make_stream(), records[:6])
    append_records(tmp_path / "recordings" / "outbox", make_stream(), records[3:])
    replay([tmp_path / "recordings"], tmp_path / "log")
    sequences = [int(id_of(event).split("/")[1]) for event in load_folder(tmp_path / "log" / "demo")]
    assert sequences == list(range(1, 11))


def test_progress_is_told_as_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboard_sidecar.logger_service.projection.replay._TURN_SIZE_BYTES", 100)
    write_recording(tmp_path / "recordings", [Said(step, Scalars({"a": 1.0})) for step in range(50)])
    told: list[int] = []
    replay([tmp_path / "recordings"], tmp_path / "log", lambda replayed: told.append(replayed.counts.records))
    assert told == sorted(told)
    assert len(told) > 10
    assert told[-1] == 50


def test_a_recording_without_a_head_is_reported_and_the_others_are_replayed(tmp_path: Path) -> None:
    broken = tmp_path / "recordings" / "broken" / f"{1:020d}.segment"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"rubbish" * 100)
    write_recording(tmp_path / "recordings", every_kind((1,)))
    first, second = replay([tmp_path / "recordings"], tmp_path / "log")
    assert "no valid segment head" in first.failure or "no segment head" in first.failure
    assert str(first).startswith(f"{broken.parent}: not replayed")
    assert second.counts.records == len(every_kind((1,)))


def test_where_there_is_no_recording_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replay([tmp_path / "nothing"], tmp_path / "log")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("run", HOSTILE_RUNS)
def test_a_recording_whose_run_would_lead_elsewhere_writes_nothing(run: str, tmp_path: Path) -> None:
    head = encode_body(SegmentHead(bytes(16), run, 0, 0, 1))
    said = [Record(Kind.SEGMENT, 0, 0, 0, head, 0), *make_records([Said(0, RunStart()), Said(1, Scalars({"a": 1.0}))])]
    segment = tmp_path / "recordings" / "x" / f"{1:020d}.segment"
    segment.parent.mkdir(parents=True)
    segment.write_bytes(b"".join(pack_frame(pack_record(record)) for record in said))
    (replayed,) = replay([tmp_path / "recordings"], tmp_path / "root" / "log")
    assert isinstance(replayed, Replayed)
    assert replayed.failure
    assert set(folder_bytes(tmp_path)) == {f"recordings/x/{1:020d}.segment"}


@pytest.mark.parametrize(
    "tag", ["../../x", "/etc/passwd", "a\\b", "~", "x" * 512, "\N{SNOWMAN}", "a b%&#+?", "-", "rank-1"]
)
def test_any_tag_stays_a_tag(tag: str, tmp_path: Path) -> None:
    write_recording(tmp_path / "recordings", [Said(1, Scalars({tag: 1.0}))])
    replay([tmp_path / "recordings"], tmp_path / "root" / "log")
    (event,) = load_folder(tmp_path / "root" / "log" / "demo")
    assert event.summary.value[0].tag == tag
    assert len(folder_bytes(tmp_path / "root")) == 1


PROGRAM = """
import sys
from pathlib import Path
from tensorboard_sidecar.logger_service.projection.replay import replay
replay([Path(sys.argv[1])], Path(sys.argv[2]))
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Pictures, maps and all, whatever the seed of hashing, the time zone and the language."""
    write_recording(tmp_path / "recordings", every_kind((1, 2)))
    settings = {"one": {"PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}, "two": {"PYTHONHASHSEED": "2", "LC_ALL": "C"}}
    for name, changes in settings.items():
        arguments = [sys.executable, "-c", PROGRAM, str(tmp_path / "recordings"), str(tmp_path / name)]
        subprocess.run(arguments, env=os.environ | changes, check=True, cwd=Path(__file__).parents[2])
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "two")
    assert len(folder_bytes(tmp_path / "one")) > 10
