"""The command line, where what was left behind is to be recorded."""

import shutil
from pathlib import Path

import pytest
from support.logger.fake_logger import FakeLogger
from support.records.recordings import START_NS, STREAM_ID, make_stream
from support.running.programs import free_port
from support.running.spoken import read_recording

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.outbox.orphan import find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, read_destination, write_destination
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping.recorder import Recorder


def abandon_recorded(folder: Path, destination: Destination, *, stream_id: bytes = STREAM_ID) -> Path:
    """Leave an outbox behind, and half of its recording; return that one's folder."""
    assert destination.record is not None
    outbox = Outbox(folder, make_stream(stream_id=stream_id), capacity_bytes=2**22, wall_time_ns=START_NS)
    recorder = Recorder(outbox, destination.record, wall_time_ns=START_NS)
    for step in range(1001):
        outbox.append(Kind.SCALARS, step, START_NS + step, encode_scalars({"loss": float(step)}))
        if step == 500:
            recorder.step(0.0, finish=True)
            recorder.close()
    write_destination(folder, destination)
    outbox.close(keep=True)
    return recorder.folder


def test_what_is_to_be_recorded_is_and_goes_to_no_logger(
    outboxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = abandon_recorded(outboxes / "a", Destination(NO_LOGGER, tmp_path))
    assert main(["status"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    assert f"run demo for its recording in {tmp_path}, records 1 to 1,001" in line
    assert line.endswith(f"; finish it with: tensorboard-sidecar drain {outboxes / 'a'}")
    with FakeLogger() as logger:
        assert main(["drain", "--endpoint", logger.endpoint]) == 0
        assert not logger.heard
    assert capsys.readouterr().out == f"{outboxes / 'a'}: run demo, 1,001 records recorded in {recording}\n"
    assert len(read_recording(tmp_path)) == 1001
    assert list(outboxes.iterdir()) == []


def test_what_is_for_both_goes_to_both_whichever_can_be_reached(
    outboxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    abandon_recorded(outboxes / "a", Destination(endpoint, tmp_path / "a"))
    assert main(["status"]) == 0
    assert f"run demo for {endpoint} and its recording in {tmp_path / 'a'}, " in capsys.readouterr().out
    assert main(["drain", "--endpoint", endpoint, "--seconds", "0.1"]) == 1
    assert "1,001 records recorded in" in capsys.readouterr().out
    assert len(read_recording(tmp_path)) == 1001
    abandon_recorded(outboxes / "b", Destination(endpoint, tmp_path / "b"), stream_id=bytes(16))
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "b").touch()
    with FakeLogger(endpoint=endpoint) as logger:
        assert main(["drain", "--endpoint", endpoint]) == 1
        assert sorted(map(len, logger.records.values())) == [1001, 1001]
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("1,001 records shipped")
    assert "1,001 records left: " in second
    assert second.endswith(", shipped")
    assert find_outboxes(outboxes) == [outboxes / "b"]
    assert read_destination(outboxes / "b") == Destination(NO_LOGGER, tmp_path / "b")


def test_a_recording_that_was_moved_is_finished_where_it_is(
    outboxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    abandon_recorded(outboxes / "a", Destination(NO_LOGGER, tmp_path / "recordings"))
    (outboxes / "a" / "record").write_bytes(b"rubbish")
    assert main(["drain"]) == 1
    assert "give --record FOLDER" in capsys.readouterr().out
    (tmp_path / "recordings").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert main(["drain", "--record", "moved"]) == 0
    assert len(read_recording(tmp_path)) == 1001
    assert list(outboxes.iterdir()) == []


def test_where_others_could_have_said_so_nothing_is_written(
    outboxes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    abandon_recorded(outboxes / "a", Destination(NO_LOGGER, tmp_path))
    (outboxes / "a").chmod(0o777)
    before = len(read_recording(tmp_path))
    assert main(["drain"]) == 1
    assert "not a private folder" in capsys.readouterr().out
    assert len(read_recording(tmp_path)) == before
