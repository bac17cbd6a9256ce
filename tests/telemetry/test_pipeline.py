"""The pipeline from messages to the outbox; test_telemetry_*.py test the public calls."""

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.logger.key_ring import KeyRing
from support.machine.sick_disk import SickDisk
from support.machine.slow_device import SlowDevice
from support.records.recordings import every_kind, make_stream
from support.records.summaries import summarize
from support.running.spoken import read_said

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.kinds import kind_of
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Matrix,
    Message,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
    Text,
)
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, OUTBOX_BYTES_MIN, Destination, read_destination
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.telemetry import pipeline as channel_module
from tensorboard_sidecar.telemetry.outbox.backlog import Storage
from tensorboard_sidecar.telemetry.outbox.outbox import SEGMENT_SIZE_BYTES
from tensorboard_sidecar.telemetry.pipeline import Pipeline, encode_message
from tensorboard_sidecar.telemetry.shipping import recorder


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    made = Pipeline(make_stream(), endpoint=None, record=tmp_path, storage=Storage(2**20))
    yield made
    ship(made, 10.0)


def ship(pipeline: Pipeline, deadline_seconds: float) -> bool:
    pipeline.stop(deadline_seconds)
    return pipeline.close()


@pytest.mark.parametrize(
    ("endpoint", "record"), [("tcp://127.0.0.1:1", False), (None, True), ("tcp://127.0.0.1:1", True)]
)
def test_an_outbox_says_where_it_is_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str | None, *, record: bool
) -> None:
    """A later trainer, or a drain, may start in any folder."""
    monkeypatch.chdir(tmp_path)
    folder = Path("recordings") if record else None
    made = Pipeline(make_stream(), endpoint=endpoint, record=folder, storage=Storage(2**20))
    destination = read_destination(made.outbox.folder)
    ship(made, 0.0)
    assert destination == Destination(endpoint or NO_LOGGER, (tmp_path / "recordings").resolve() if record else None)


@pytest.mark.usefixtures("outboxes")
def test_what_is_left_of_a_run_that_was_recorded_is_for_its_logger_alone(tmp_path: Path) -> None:
    """Otherwise the outbox would stay in memory although its recording is complete."""
    endpoint = "tcp://127.0.0.1:1"
    made = Pipeline(make_stream(), endpoint=endpoint, record=tmp_path, storage=Storage(2**20))
    made.keep(0, Text("a", "b"))
    assert not ship(made, 0.2)
    assert len(read_said(tmp_path)) == 1
    assert read_destination(made.outbox.folder) == Destination(endpoint)


@pytest.mark.usefixtures("outboxes")
def test_an_outbox_says_whose_key_it_has(tmp_path: Path) -> None:
    """The public key by which the logger knows the trainer."""
    ring = KeyRing(tmp_path)
    keys = ring.make_trainer()
    made = Pipeline(make_stream(), endpoint="tcp://127.0.0.1:1", record=None, storage=Storage(2**20), keys=keys)
    assert read_destination(made.outbox.folder).public_key == (ring.trainers / "gpu-box.pub").read_text().strip()
    ship(made, 0.0)


@pytest.mark.usefixtures("outboxes")
def test_what_is_not_all_recorded_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = Pipeline(make_stream(), endpoint=None, record=tmp_path, storage=Storage(2**20))
    disk = SickDisk(monkeypatch, "fdatasync")
    disk.error = errno.EIO
    pipeline.keep(0, Text("a", "b"))
    assert not ship(pipeline, 0.1)
    finish = f"tensorboard-sidecar drain {pipeline.outbox.folder}, when {tmp_path} can be written"
    assert finish in caplog.text
    assert "logger" not in caplog.records[-1].getMessage()


@pytest.mark.parametrize("message", [said.message for said in every_kind((1,))], ids=lambda m: type(m).__name__)
def test_what_is_encoded_is_what_a_reader_decodes(message: Message) -> None:
    body = encode_message(7, message)
    assert decode_message(Record(kind_of(message), 1, 7, 0, body)) == message


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (-(2**53) - 1, Text("t", "x")),
        (0, Text("", "x")),
        (0, Text("t", 5)),  # type: ignore[arg-type]
        (0, RunEnd("tired")),  # type: ignore[arg-type]
        (0, RunStart(0, {"a": None})),  # type: ignore[dict-item]
        (0, Scalars({"a": "word"})),  # type: ignore[dict-item]
        (0, Audio("a", [], 8000.0)),  # type: ignore[arg-type]
        (0, Matrix("m", pack_array(np.zeros((2, 2), np.float64)))),
        (0, Matrix("m", pack_array(np.zeros((2, 2), np.float32)), ["title"])),  # type: ignore[arg-type]
        (0, TensorSummaries({"": summarize(torch.ones(3))})),
    ],
)
def test_what_no_reader_takes_is_not_encoded(step: int, message: Message) -> None:
    """A kept message would only be counted as malformed by a logger, unnoticed by the user."""
    with pytest.raises((Malformed, TooLarge)):
        encode_message(step, message)


@pytest.mark.parametrize(("outbox_bytes", "segment_bytes"), [(OUTBOX_BYTES_MIN, 2**17), (2**26, SEGMENT_SIZE_BYTES)])
def test_an_outbox_has_eight_segments_or_more(tmp_path: Path, outbox_bytes: int, segment_bytes: int) -> None:
    """With few segments, a partly shipped segment would hold most of the memory."""
    made = Pipeline(make_stream(), endpoint=None, record=tmp_path, storage=Storage(outbox_bytes))
    [segment] = made.outbox.folder.glob("*.segment")
    assert segment.stat().st_size == segment_bytes
    assert ship(made, 10.0)


def test_a_small_outbox_that_is_shipped_never_fills(
    tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_SYNC_INTERVAL_SECONDS", 0.0)
    for step in range(300):
        pipeline.append(Kind.TEXT, step, encode_message(step, Text("t", "x" * 30_000)))
        if pipeline.outbox.used_bytes > 600_000:
            assert pipeline.outbox.refusals.total == 0
            while pipeline.outbox.used_bytes > 300_000:
                pipeline.sender.join(0.01)
    assert ship(pipeline, 10.0)
    assert len(read_said(tmp_path)) == 300


def test_nothing_is_taken_while_the_rest_is_shipped(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a thread that logs during the close would lose a record that counts as kept."""
    finish = pipeline.sender.finish

    def log_then_finish() -> bool:
        with pytest.raises(RuntimeError):
            pipeline.outbox.append(Kind.TEXT, 1, 1, b"")
        return finish()

    monkeypatch.setattr(pipeline.sender, "finish", log_then_finish)
    assert ship(pipeline, 10.0)


def test_host_tensors_are_kept_at_once(tmp_path: Path, pipeline: Pipeline) -> None:
    def build(arrays: Any) -> Message:
        return Scalars({"a": float(arrays[0].sum()), "b": float(arrays[1])})

    pipeline.keep_tensors(3, Kind.SCALARS, [torch.ones(4), torch.tensor(2.0)], build)
    assert ship(pipeline, 10.0)
    assert read_said(tmp_path) == [(3, Scalars({"a": 4.0, "b": 2.0}))]


def test_a_place_is_as_large_as_the_values_may_need(
    tmp_path: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SlowDevice()
    monkeypatch.setattr(channel_module, "start_copy", device.start_copy)

    def build(arrays: Any) -> Message:
        return Text("t", "x" * int(1000 * arrays[0][0]))

    pipeline.keep_tensors(1, Kind.TEXT, [torch.zeros(1, device="meta")], build, size_max_bytes=1100)
    pipeline.keep_tensors(2, Kind.TEXT, [torch.zeros(1, device="meta")], build)
    for copy in device.copies:
        copy.arrive()
    assert ship(pipeline, 10.0)
    first, second = read_said(tmp_path)
    assert first == (1, Text("t", "x" * 1000))
    assert type(second.message).__name__ == "Gap"


def test_a_template_that_no_reader_takes_is_refused_before_a_copy(pipeline: Pipeline) -> None:
    with pytest.raises(Malformed):
        pipeline.keep_tensors(1, Kind.TEXT, [torch.zeros(1, device="meta")], lambda _: Text("", ""))
    assert pipeline.outbox.next_sequence == 1


def test_a_start_that_fails_leaves_no_socket_behind(outboxes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(NotADirectoryError):
            Pipeline(
                make_stream(),
                endpoint="tcp://127.0.0.1:5555",
                record=tmp_path / "file",
                storage=Storage(OUTBOX_BYTES_MIN),
            )
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert list(outboxes.iterdir()) == []


def test_a_recording_behind_links_in_a_circle_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OSError, match="circle"):
        Pipeline(make_stream(), endpoint=None, record=tmp_path / "circle", storage=Storage(2**20))
