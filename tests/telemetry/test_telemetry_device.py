"""Values on a device: kept in order, without a wait, and told as lost when they cannot be fetched.

Torch's meta device stands for one: its tensors have a shape and a dtype, are not in host memory, and have no values to
be read by mistake. Where values matter, ``SlowDevice`` brings them when the test says so. Real ones are tested where
there is a GPU.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.logger.fake_logger import FakeLogger
from support.machine.slow_device import SlowDevice
from support.machine.waiting import wait_until
from support.records.summaries import summarize
from support.running.spoken import read_said
from torch import Tensor

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.limits import CREDIT_BYTES
from tensorboard_sidecar.protocol.messages import (
    Embedding,
    Gap,
    HParams,
    Images,
    Matrix,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
    Text,
)
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.wire import Hello, Welcome, WireMessage
from tensorboard_sidecar.telemetry import pipeline
from tensorboard_sidecar.telemetry.values.summaries import device_summary

META = torch.zeros((), device="meta")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> SlowDevice:
    slow = SlowDevice()
    monkeypatch.setattr(pipeline, "start_copy", slow.start_copy)
    return slow


@pytest.fixture
def telemetry(tmp_path: Path) -> Iterator[Telemetry]:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as made:
        yield made


def said(folder: Path) -> list[object]:
    return [said.message for said in read_said(folder)]


def test_a_steps_scalars_are_one_copy(tmp_path: Path, telemetry: Telemetry, device: SlowDevice) -> None:
    telemetry.scalars(3, {f"loss/{n}": META for n in range(19)} | {"lr": 0.5, "host": torch.tensor(2.0)})
    [copy] = device.copies
    copy.arrive()
    telemetry.close()
    assert said(tmp_path)[1] == Scalars({f"loss/{n}": 1.0 for n in range(19)} | {"lr": 0.5, "host": 2.0})


def test_scalars_of_the_host_keep_their_digits_and_their_place_beside_those_of_a_device(
    tmp_path: Path, telemetry: Telemetry, device: SlowDevice
) -> None:
    """A device may have float32 alone, where a time of today is some seconds off."""
    telemetry.scalars(3, {"time": 1722222222.125, "loss": META, "count": torch.tensor(123_456_789)})
    device.copies[0].arrive()
    telemetry.close()
    message = said(tmp_path)[1]
    assert isinstance(message, Scalars)
    assert list(message.values.items()) == [("time", 1722222222.125), ("loss", 1.0), ("count", 123_456_789.0)]


def test_one_bad_value_beside_values_of_a_device_costs_itself_alone(tmp_path: Path, device: SlowDevice) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.scalars(1, {"a": META, "b": None, "c": META.expand(2), "d": 4.0})  # type: ignore[dict-item]
        assert telemetry.faults.total == 2
        device.copies[0].arrive()
    assert said(tmp_path)[1:-1] == [Scalars({"a": 1.0, "d": 4.0})]


def test_records_wait_in_order_behind_a_copy(tmp_path: Path, telemetry: Telemetry, device: SlowDevice) -> None:
    telemetry.scalars(1, {"a": META})
    telemetry.text(1, "note", "from the host")
    telemetry.scalars(2, {"a": META})
    telemetry.scalars(2, {"b": 5.0})
    first, second = device.copies
    second.arrive()
    with pytest.raises(TimeoutError):
        wait_until(lambda: telemetry._pipeline.sender.acked_sequence > 2, seconds=0.3)
    first.arrive()
    telemetry.close()
    assert said(tmp_path) == [
        RunStart(0, {}),
        Scalars({"a": 1.0}),
        Text("note", "from the host"),
        Scalars({"a": 2.0}),
        Scalars({"b": 5.0}),
        RunEnd("completed"),
    ]


def test_a_device_that_breaks_costs_its_values_and_says_so(
    tmp_path: Path, telemetry: Telemetry, device: SlowDevice, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry.scalars(1, {"a": META})
    telemetry.matrix(1, "m", torch.zeros(3, 3, device="meta"))
    telemetry.text(2, "note", "from the host")
    for copy in device.copies:
        copy.fail(RuntimeError("CUDA error: device-side assert triggered"))
    telemetry.close()
    reason = "not fetched from the device: RuntimeError"
    assert said(tmp_path)[1:-1] == [
        Gap(reason, {"scalars": 1}),
        Gap(reason, {"matrix": 1}),
        Text("note", "from the host"),
    ]
    assert len(caplog.records) == 1


def test_values_that_cannot_be_fetched_are_a_gap(tmp_path: Path) -> None:
    """With nothing in between: a meta tensor has nothing to fetch."""
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        telemetry.scalars(1, {"a": META})
        telemetry.summaries(1, {"a": torch.zeros(4, device="meta")})
    gap = "not fetched from the device: NotImplementedError"
    assert said(tmp_path)[1:-1] == [Gap(gap, {"scalars": 1}), Gap(gap, {"tensor_summaries": 1})]


def test_a_copy_that_cannot_be_started_leaves_no_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot without values would block all later records."""

    def no_memory(_tensor: Tensor) -> None:
        raise torch.OutOfMemoryError("no pinned memory")

    monkeypatch.setattr(pipeline, "start_copy", no_memory)
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.scalars(1, {"a": META})
        telemetry.scalars(2, {"a": 2.0})
        assert telemetry.faults.total == 1
    assert said(tmp_path)[1:] == [Scalars({"a": 2.0}), RunEnd("completed")]


def test_a_close_waits_for_the_device_no_longer_than_its_deadline(outboxes: Path, device: SlowDevice) -> None:
    """Unfinished copies are lost with the process; the next owner of the outbox records a gap."""
    with FakeLogger() as logger:
        telemetry = Telemetry("run", endpoint=logger.endpoint, strict=True)
        telemetry.scalars(1, {"a": META})
        telemetry.close(0.2)
        [stream] = logger.records
        assert len(logger.records[stream]) == 1
    [outbox] = find_outboxes(outboxes)
    orphan = OrphanedOutbox(outbox)
    assert orphan.next_sequence == 4
    orphan.close(keep=False)
    assert len(device.copies) == 1


def test_a_logger_that_claims_values_that_are_still_on_the_device_is_not_believed(device: SlowDevice) -> None:
    """Their place would be given back, and nobody ships any more. Else all goes on."""
    claims = iter([Welcome(1000, CREDIT_BYTES)])

    def claim(message: WireMessage) -> list[WireMessage] | None:
        found = next(claims, None) if isinstance(message, Hello) else None
        return [found] if found else None

    with FakeLogger(claim) as logger:
        logger.freeze()
        telemetry = Telemetry("run", endpoint=logger.endpoint, strict=True, outbox_bytes=2**20)
        telemetry.scalars(1, {"a": META})
        for step in range(2, 3000):
            telemetry.scalars(step, {"a": 1.0})
        logger.thaw()
        wait_until(lambda: logger.count(Hello) > 1)
        device.copies[0].arrive()
        telemetry.close(30.0)
        [stream] = logger.records
        assert [type(message) for message in logger.messages(stream)] == [RunStart, *[Scalars] * 2999, RunEnd]


def test_summaries_of_a_device_are_those_of_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"weights/a": torch.randn(50), "weights/b": torch.tensor([0.0, torch.nan, torch.inf]), "c": torch.ones(3)}
    packed = torch.stack([device_summary(tensor) for tag, tensor in tensors.items() if tag != "c"]).numpy()
    slow = SlowDevice(lambda tensor: packed if tensor.shape == packed.shape else np.zeros(0))
    monkeypatch.setattr(pipeline, "start_copy", slow.start_copy)
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        order = ("c", "weights/a", "weights/b")
        telemetry.summaries(1, {tag: tensors[tag].to("meta") if tag != "c" else tensors[tag] for tag in order})
        slow.copies[0].arrive()
    message = said(tmp_path)[1]
    assert isinstance(message, TensorSummaries)
    assert tuple(message.summaries) == order
    for tag, summary in message.summaries.items():
        assert summary.indexes == summarize(tensors[tag]).indexes
        assert summary.sum_squares == pytest.approx(summarize(tensors[tag]).sum_squares)


def test_every_kind_of_value_can_come_from_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowDevice(lambda tensor: np.ones(tensor.shape, str(tensor.dtype).removeprefix("torch.")))
    monkeypatch.setattr(pipeline, "start_copy", slow.start_copy)
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        telemetry.matrix(1, "m", torch.zeros(3, 4, device="meta"), value_range=(0.0, 1.0))
        telemetry.images(1, "i", torch.zeros(2, 3, 4, 5, device="meta"), captions := ["x", "y"])
        telemetry.audio(1, "a", [torch.zeros(7, device="meta"), torch.zeros(2, 5)], sample_rate_hz=8000)
        telemetry.embedding(1, "e", torch.zeros(3, 4, device="meta"), metadata={"c": ["p", "q", "r"]})
        telemetry.hparams(1, {"lr": 1.0}, {"best": META})
        captions.append("what the caller does with its list is its own business")
        for copy in slow.copies:
            copy.arrive()
    matrix, images, audio, embedding, hparams = said(tmp_path)[1:-1]
    assert isinstance(matrix, Matrix)
    assert (matrix.values.dtype, matrix.values.shape) == ("float16", (3, 4))
    assert isinstance(images, Images)
    assert (images.images.shape, images.captions) == ((2, 4, 5, 3), ["x", "y"])
    assert [type(message).__name__ for message in (audio, embedding)] == ["Audio", "Embedding"]
    assert hparams == HParams({"lr": 1.0}, {"best": 1.0})


def test_an_embedding_on_a_device_travels_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SlowDevice(lambda tensor: np.ones(tensor.shape, str(tensor.dtype).removeprefix("torch.")))
    monkeypatch.setattr(pipeline, "start_copy", slow.start_copy)
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        images = torch.zeros(120_000, 1, 2, 2, device="meta")
        telemetry.embedding(1, "e", torch.zeros(120_000, 4, device="meta"), images=images)
        assert len(slow.copies) == 4
        for copy in slow.copies:
            copy.arrive()
    first, last = said(tmp_path)[1:-1]
    assert isinstance(first, Embedding)
    assert isinstance(last, Embedding)
    assert (first.vectors.shape, first.first_row, first.row_count) == ((100_000, 4), 0, 120_000)
    assert (last.vectors.shape, last.first_row, last.row_count) == ((20_000, 4), 100_000, 120_000)
    assert first.thumbnails is not None
    assert first.thumbnails.shape == (100_000, 2, 2, 3)


def test_a_full_outbox_refuses_device_values_like_others(device: SlowDevice) -> None:
    telemetry = Telemetry("run", endpoint="tcp://127.0.0.1:1", strict=True, outbox_bytes=2**20)
    for step in range(40):
        telemetry.images(step, "i", torch.zeros(1, 3, 128, 128, device="meta"))
    assert telemetry.health()["telemetry/refused"] > 10
    telemetry.close(0.0)
    assert len(device.copies) == 40


def test_a_default_device_elsewhere_does_not_lead_astray(tmp_path: Path, device: SlowDevice) -> None:
    """Users set a default device for their models; telemetry's own tensors stay in host memory."""
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        with torch.device("meta"):
            telemetry.scalars(1, {"a": META})
            telemetry.scalars(2, {"a": 2.0})
            telemetry.matrix(2, "m", np.eye(2, dtype=np.float32))
            telemetry.images(2, "i", np.full((1, 2, 2), 9, np.uint8))
            telemetry.summaries(2, {"w/a": np.ones(3), "w/b": np.ones(9000)})
        device.copies[0].arrive()
    scalars, more, matrix, images, summaries = said(tmp_path)[1:-1]
    assert (scalars, more) == (Scalars({"a": 1.0}), Scalars({"a": 2.0}))
    assert isinstance(matrix, Matrix)
    assert matrix.values.numpy().tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert isinstance(images, Images)
    assert set(images.images.data) == {9}
    assert isinstance(summaries, TensorSummaries)
    assert [summary.count for summary in summaries.summaries.values()] == [3, 9000]


@pytest.mark.cuda
@needs_gpu
def test_no_call_waits_for_a_gpu(tmp_path: Path) -> None:
    values = {f"loss/{n}": torch.tensor(float(n), device="cuda") for n in range(19)}
    weights = {f"weights/{n}": torch.randn(100, 100, device="cuda") for n in range(5)}
    masks = [torch.tensor([[0, 1]], device="cuda").to(dtype) for dtype in (torch.int64, torch.uint16)]
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        torch.cuda.set_sync_debug_mode("error")
        try:
            telemetry.scalars(1, values | {"lr": 0.5, "host": torch.tensor(2.0)})
            telemetry.summaries(1, weights | {"host": torch.ones(3)})
            telemetry.matrix(1, "m", weights["weights/0"], value_range=(-1.0, 1.0))
            telemetry.images(1, "i", torch.rand(2, 3, 8, 8, device="cuda"))
            for mask in masks:
                telemetry.images(1, "mask", mask)
            telemetry.images(1, "grey with alpha", [torch.rand(2, 8, 8, device="cuda")])
            telemetry.audio(1, "a", [torch.rand(100, device="cuda")], sample_rate_hz=8000)
            telemetry.embedding(1, "e", weights["weights/0"], images=torch.rand(100, 3, 80, 80, device="cuda"))
            telemetry.hparams(1, {}, {"best": values["loss/3"]})
        finally:
            torch.cuda.set_sync_debug_mode("default")
    scalars, summaries, *others = said(tmp_path)[1:-1]
    assert scalars == Scalars({f"loss/{n}": float(n) for n in range(19)} | {"lr": 0.5, "host": 2.0})
    assert isinstance(summaries, TensorSummaries)
    for tag, tensor in weights.items():
        assert summaries.summaries[tag].indexes == summarize(tensor.cpu()).indexes
        assert summaries.summaries[tag].counts == summarize(tensor.cpu()).counts
    names = ["Matrix", "Images", "Images", "Images", "Images", "Audio", "Embedding", "HParams"]
    assert [type(message).__name__ for message in others] == names
    assert [list(message.images.data) for message in others[2:4] if isinstance(message, Images)] == [[0, 255]] * 2


@pytest.mark.cuda
@needs_gpu
def test_what_is_split_or_reduced_waits_for_no_gpu(tmp_path: Path) -> None:
    pictures, wide = torch.rand(300, 3, 8, 8, device="cuda"), torch.rand(1, 3, 4, 9000, device="cuda")
    values, clips = torch.rand(5000, 6000, device="cuda"), [torch.rand(100, device="cuda")] * 70
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        torch.cuda.set_sync_debug_mode("error")
        try:
            telemetry.images(1, "i", pictures, captions=["x"] * 300)
            telemetry.images(1, "wide", wide, captions=[values])  # a caption that only the device knows
            telemetry.matrix(1, "m", values, value_range=(values[0, 0], 1.0), title=values)  # type: ignore[arg-type]
            telemetry.audio(1, "a", clips, sample_rate_hz=8000)
            telemetry.text(1, "t", {"loss": values[0, 0]})
            telemetry.summaries(1, {f"{group}/{n}": values[0] for n in range(5000) for group in "ab"})
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert telemetry.faults.total == 5
    *kept, text, first, second = said(tmp_path)[1:-1]
    assert [type(message).__name__ for message in kept] == ["Images"] * 3 + ["Matrix"] + ["Audio"] * 2
    assert text == Text("t", "{'loss': tensor on cuda:0 of shape ()}")
    assert isinstance(first, TensorSummaries)
    assert isinstance(second, TensorSummaries)
    assert (len(first.summaries), len(second.summaries)) == (5000, 5000)
    matrix = kept[3]
    assert isinstance(matrix, Matrix)
    expected = values.reshape(2500, 2, 3000, 2).mean((1, 3)).cpu()
    np.testing.assert_allclose(matrix.values.numpy(), expected, rtol=1e-5)


@pytest.mark.cuda
@needs_gpu
def test_gpu_values_are_those_at_the_time_of_the_call(tmp_path: Path) -> None:
    value = torch.zeros((), device="cuda")
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for step in range(200):
            telemetry.scalars(step, {"a": value})
            value += 1
    assert said(tmp_path)[1:-1] == [Scalars({"a": float(step)}) for step in range(200)]
