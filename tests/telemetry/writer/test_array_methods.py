"""Histograms, precision-recall curves, meshes, tensors, embeddings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.machine.slow_device import SlowDevice
from support.records.recordings import Said
from support.running.spoken import read_said
from support.running.writing import one, written

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import (
    Embedding,
    Histogram,
    Mesh,
    PrCurve,
    PrCurveRaw,
    Tensor,
    TensorSummaries,
)
from tensorboard_sidecar.telemetry import pipeline
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods


def test_a_histogram_is_a_summary(tmp_path: Path) -> None:
    message = one(tmp_path, lambda writer: writer.add_histogram("weights/a", np.arange(5.0), 7))
    assert isinstance(message, TensorSummaries)
    assert message.summaries["weights/a"].count == 5


@pytest.mark.parametrize("bins", ["auto", 4, [0.0, 2.0, 4.0]])
def test_a_histogram_with_bins_of_its_own_is_counted_in_them(tmp_path: Path, bins: Any) -> None:
    message = one(tmp_path, lambda writer: writer.add_histogram("h", np.arange(5.0), 7, bins))
    assert isinstance(message, Histogram)
    assert (message.minimum, message.maximum, message.count, message.sum, message.sum_squares) == (0, 4, 5, 10, 30)
    assert message.counts.numpy().sum() == 5


def test_a_histogram_with_few_bins_has_torchs_bins_joined(tmp_path: Path) -> None:
    message = one(tmp_path, lambda writer: writer.add_histogram("h", np.arange(5.0), 7, max_bins=50))
    assert isinstance(message, Histogram)
    assert message.counts.numpy().sum() == 5


def test_values_on_a_device_have_the_default_bins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.writer.add_histogram("h", torch.ones(3, device="meta"), 7, bins="auto")
    assert "values on a device are counted in the default bins" in caplog.text


def test_the_default_bins_are_torchs(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        bins = telemetry.writer.default_bins
    assert len(bins) == 1549
    assert bins == sorted(bins)
    assert bins[774:776] == [0, 1e-12]


def test_finished_curves_and_arrays_are_records(tmp_path: Path) -> None:
    rows = np.arange(12.0).reshape(6, 2)

    def write(writer: WriterMethods) -> None:
        writer.add_histogram_raw("h", 0, 3, 4, 6, 14, [1, 3], [2, 2], 7)
        writer.add_pr_curve("p", [0, 1], np.array([0.25, 0.75]), 7, num_thresholds=10)
        writer.add_pr_curve_raw("r", *rows, 7)
        writer.add_mesh("m", torch.ones(1, 2, 3), config_dict={"b": 1, "a": 2}, global_step=7)
        writer.add_tensor("t", torch.ones(2, dtype=torch.int32), 7)

    labels, predictions = np.array([0, 1], np.uint8), np.array([0.25, 0.75], np.float32)
    assert written(tmp_path, write) == [
        Said(7, Histogram("h", 0, 3, 4, 6, 14, pack_array(np.array([1.0, 3.0])), pack_array(np.array([2.0, 2.0])))),
        Said(7, PrCurve("p", pack_array(labels), pack_array(predictions), 10)),
        Said(7, PrCurveRaw("r", pack_array(rows.astype(np.float32)))),
        Said(7, Mesh("m", pack_array(np.ones((1, 2, 3), np.float32)), config='{"a": 2, "b": 1}')),
        Said(7, Tensor("t", pack_array(np.ones(2, np.int32)))),
    ]


def test_arrays_on_a_device_arrive_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls wait for no device: torch's meta device has no values at all."""
    device = SlowDevice(lambda tensor: np.ones(tensor.shape, str(tensor.dtype).removeprefix("torch.")))
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)
    far = torch.ones(2, device="meta")
    cloud = torch.ones(1, 2, 3, device="meta")
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        writer = telemetry.writer
        writer.add_histogram_raw("h", 0, 3, 4, 6, 14, far, far, 7)
        writer.add_pr_curve("p", far.long(), far.double(), 7, weights=far)
        writer.add_pr_curve_raw("r", far, far, far, far, far, np.ones(2), 7)
        writer.add_mesh("m", cloud, cloud, cloud, global_step=7)
        writer.add_tensor("t", far.to(torch.bfloat16), 7)
        writer.add_image_with_boxes("b", torch.ones(3, 4, 5, device="meta"), torch.ones(1, 4, device="meta"), 7)
        writer.add_video("v", torch.ones(1, 2, 3, 4, 5, device="meta"), 7)
        writer.add_audio("s", torch.ones(5, device="meta"), 7)
        writer.add_scalars("o", {"a": torch.ones((), device="meta"), "b": 2.0}, 7)
        writer.add_hparams({"lr": 1}, {"a": torch.ones((), device="meta")}, run_name="x")
        assert read_said_kinds(tmp_path) == []
        for copy in device.copies:
            copy.arrive()
    assert read_said_kinds(tmp_path) == [
        *("Histogram", "PrCurve", "PrCurveRaw", "Mesh", "Tensor", "Boxes", "Video", "Audio", "Overlay", "HParams"),
    ]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_no_method_waits_for_a_gpu(tmp_path: Path) -> None:
    row, bits = torch.rand(4, device="cuda"), torch.ones(4, dtype=torch.int64, device="cuda")
    cloud, wide = torch.rand(1, 4, 3, device="cuda"), torch.rand(3, 4, 9_000, device="cuda")
    boxes, clips = torch.rand(2, 4, device="cuda"), torch.rand(2, 3, 3, 8, 8, device="cuda")
    faces = torch.zeros(1, 2, 3, dtype=torch.int64, device="cuda")
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        writer = telemetry.writer
        torch.cuda.set_sync_debug_mode("error")
        try:
            writer.add_scalar("a", row[0], 7, 5.0)
            writer.add_scalars("o", {"a": row[0], "b": 2.0}, 7)
            writer.add_hparams({"lr": row[0]}, {"a": row[0]}, run_name="x")
            writer.add_histogram("h", row, 7, "auto")
            writer.add_histogram_raw("h", 0, 3, 4, 6, 14, row, row, 7)
            writer.add_pr_curve("p", bits, row, 7, weights=2.0)
            writer.add_pr_curve("p", bits, row, 7, weights=row)
            writer.add_pr_curve_raw("r", row, row, row, row, row, np.ones(4), 7)
            writer.add_mesh("m", cloud, cloud, faces, global_step=7)
            writer.add_tensor("t", row.to(torch.bfloat16), 7)
            writer.add_image_with_boxes("b", wide, boxes, 7)
            writer.add_video("v", clips, 7)
            writer.add_audio("s", row, 7)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert telemetry.faults.total == 1  # the wide picture is reduced
    assert read_said_kinds(tmp_path) == [
        *("Point", "Overlay", "HParams", "TensorSummaries", "Histogram", "PrCurve", "PrCurve", "PrCurveRaw"),
        *("Mesh", "Tensor", "Boxes", "Video", "Audio"),
    ]


def read_said_kinds(folder: Path) -> list[str]:
    """Return the types of the messages, without start, end and what is not recorded yet."""
    if not list(folder.rglob("*.segment")):
        return []
    kinds = [type(message).__name__ for _, message in read_said(folder)]
    return [kind for kind in kinds if kind not in ("RunStart", "RunEnd")]


@pytest.mark.parametrize(
    ("metadata", "header", "columns", "rows"),
    [
        (None, None, [], []),
        (["x", 5], None, ["label"], [["x"], ["5"]]),
        ([("x", 1), ("y", 2)], ["name", "number"], ["name", "number"], [["x", "1"], ["y", "2"]]),
    ],
)
def test_an_embedding_has_a_label_or_a_row_a_point(
    tmp_path: Path, metadata: Any, header: Any, columns: list[str], rows: list[list[str]]
) -> None:
    message = one(
        tmp_path,
        lambda writer: writer.add_embedding(
            torch.ones(2, 3), metadata, torch.ones(2, 3, 8, 8), 7, "points", metadata_header=header
        ),
    )
    assert isinstance(message, Embedding)
    assert (message.tag, message.columns, message.rows) == ("points", columns, rows)
    assert message.thumbnails is not None


def test_rows_of_metadata_of_another_length_cost_no_point(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.writer.add_embedding(torch.ones(2, 3), [("x",), ("y", 5)], metadata_header=["name", "number"])
        assert telemetry.faults.total == 1
    [said] = read_said(tmp_path)[1:-1]
    assert isinstance(said.message, Embedding)
    assert (said.message.columns, said.message.rows) == (["name", "number"], [["x", "-"], ["y", "5"]])


@pytest.mark.parametrize(
    ("metadata", "pictures"), [(["x"], None), (["x"] * 3, None), (None, torch.ones(3, 3, 8, 8))], ids=str
)
def test_sizes_that_disagree_are_a_fault_that_strict_raises(tmp_path: Path, metadata: Any, pictures: Any) -> None:
    """Both peers raise at the call; the points are kept all the same."""
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    with pytest.raises(ValueError, match="for 2 points"):
        telemetry.writer.add_embedding(torch.ones(2, 3), metadata, pictures)
    telemetry.close()
    [said] = read_said(tmp_path)[1:-1]
    assert isinstance(said.message, Embedding)
