"""Precision-recall curves, histograms with bins, raw tensors."""

from typing import Any

import numpy as np
import pytest
import torch
from support.ids import plain
from torch.utils.tensorboard.summary import make_histogram

from tensorboard_sidecar.protocol.messages import Histogram, PrCurve, Tensor
from tensorboard_sidecar.telemetry.values.curves import (
    binned,
    default_bins,
    histogram_raw,
    pr_curve,
    pr_curve_raw,
    raw_tensor,
)


def no_note(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("bins", ["auto", "fd", "doane", 7, [-1.0, 0.0, 0.5, 9.0], "tensorflow"])
@pytest.mark.parametrize("max_bins", [None, 1, 3, 5, 100])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_histogram_with_bins_is_torchs(bins: Any, max_bins: int | None, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=50)
    edges = default_bins() if bins == "tensorflow" else bins
    ours = binned("h", values, edges, max_bins)
    made = ours.build([tensor.numpy() for tensor in ours.tensors])
    theirs = make_histogram(values, edges, max_bins)
    assert isinstance(made, Histogram)
    np.testing.assert_allclose(made.limits.numpy(), theirs.bucket_limit)
    np.testing.assert_allclose(made.counts.numpy(), theirs.bucket)
    moments = (made.minimum, made.maximum, made.count, made.sum, made.sum_squares)
    np.testing.assert_allclose(moments, (theirs.min, theirs.max, theirs.num, theirs.sum, theirs.sum_squares))


@pytest.mark.parametrize(
    ("values", "bins"), [([], "auto"), ([5.0], [0.0, 1.0]), ([1.0], "no such bins"), ([np.nan], "auto"), ([1.0], [])]
)
def test_a_histogram_without_values_in_bins_is_an_error(values: list[float], bins: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        binned("h", np.array(values), bins, None)


@pytest.mark.parametrize("bins", ["auto", "fd", 10**9, 10**400], ids=["auto", "fd", "many", "huge"])
def test_too_many_bins_are_an_error_before_they_are_made(bins: Any) -> None:
    values = np.append(np.linspace(0, 1, 100), 1e12)
    with pytest.raises(ValueError, match="more than 100,000 bins"):
        binned("h", values, bins, None)


@pytest.mark.parametrize(
    ("limits", "counts"), [([1.0], [1.0, 2.0]), ([], []), (None, [1.0]), (["x"], [1.0]), ([1j], [1.0])], ids=plain
)
def test_a_finished_histogram_has_a_count_a_bucket(limits: Any, counts: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        histogram_raw("h", (0, 1, 2, 3, 4), limits, counts)


def test_labels_are_bits_and_weights_are_one_a_sample() -> None:
    draft = pr_curve("p", torch.tensor([[True], [False]]), np.array([[0.5], [1.0]]), 1000, 2, no_note)
    made = draft.build([tensor.numpy() for tensor in draft.tensors])
    assert isinstance(made, PrCurve)
    assert made.labels.numpy().tolist() == [1, 0]
    assert made.predictions.numpy().tolist() == [0.5, 1.0]
    assert made.weights is not None
    assert made.weights.numpy().tolist() == [2.0, 2.0]
    assert made.threshold_count == 127


def test_samples_that_torch_does_not_count_are_left_out() -> None:
    """A prediction slightly above 1 is counted at the last threshold, by torch's writer too."""
    notes: list[Exception] = []
    predictions = np.array([np.nan, -0.1, 0.5, 1.0001, 2.0, np.inf])
    draft = pr_curve("p", np.array([1, 1, 1, 0, 1, 1]), predictions, 127, None, notes.append)
    made = draft.build([tensor.numpy() for tensor in draft.tensors])
    assert isinstance(made, PrCurve)
    assert made.labels.numpy().tolist() == [1, 0]
    assert made.predictions.numpy().tolist() == [0.5, 1.0]
    assert [str(note) for note in notes] == ["predictions: 'p': 4 of 6 are not in 0..1 and are left out"]


def test_more_samples_than_a_record_holds_are_cut() -> None:
    notes: list[Exception] = []
    draft = pr_curve("p", np.ones(5), np.ones(5), 127, None, notes.append, samples_max=3)
    assert [len(tensor) for tensor in draft.tensors] == [3, 3]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("labels", "predictions", "thresholds", "weights"),
    [
        *(([0, 1], [0.5], 127, None), ([], [], 127, None), ([0, 2], [0.5, 0.5], 127, None), ([0.5], [0.5], 127, None)),
        *(([0], [0.5], 1, None), ([0], [0.5], "many", None), ([0, 1], [0.5, 1.0], 127, [1.0, 2.0, 3.0])),
        *(([0], None, 127, None), (object(), [0.5], 127, None), ([0], [0.5], 127, "heavy")),
    ],
    ids=plain,
)
def test_samples_that_do_not_fit_together_are_an_error(
    labels: Any, predictions: Any, thresholds: Any, weights: Any
) -> None:
    with pytest.raises((ValueError, TypeError)):
        pr_curve("p", labels, predictions, thresholds, weights, no_note)


def test_a_finished_curve_has_six_rows_of_one_size() -> None:
    with pytest.raises(ValueError, match="expected equal sizes"):
        pr_curve_raw("p", [[1.0, 2.0]] * 5 + [[1.0]])


@pytest.mark.parametrize(
    ("values", "dtype", "shape"),
    [
        (torch.ones(2, 3, dtype=torch.bfloat16), "float32", (2, 3)),
        (torch.ones(2, dtype=torch.bool), "uint8", (2,)),
        (torch.ones((), dtype=torch.int64), "int64", ()),
        (torch.ones(2, dtype=torch.float16), "float16", (2,)),
        (np.ones((2, 0)), "float64", (2, 0)),
        (np.ones(2, ">i4"), "int32", (2,)),
        (np.ones((2, 3)).T, "float64", (3, 2)),
    ],
)
def test_a_tensor_keeps_its_dtype_and_shape(values: Any, dtype: str, shape: tuple[int, ...]) -> None:
    draft = raw_tensor("t", values)
    made = draft.build([tensor.numpy() for tensor in draft.tensors])
    assert isinstance(made, Tensor)
    assert (made.values.dtype, made.values.shape) == (dtype, shape)
    np.testing.assert_array_equal(made.values.numpy(), 1)
