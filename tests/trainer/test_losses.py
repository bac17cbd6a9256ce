import math

import pytest
import torch
from torch.nn import functional

from tensorboard_sidecar.trainer.losses import Losses, RunningMoments, contrastive_losses, info_nce, same_items
from tensorboard_sidecar.trainer.model import Latents

NO_DUPLICATES = torch.eye(4, dtype=torch.bool)
SCALE = torch.tensor(10.0)


def make_units(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(4, 8, generator=generator), dim=1)


def test_info_nce_is_the_mean_of_both_directions() -> None:
    a, b = make_units(0), make_units(1)
    similarity = (10 * a @ b.T).double()
    rows = [-math.log(math.exp(row[n]) / sum(math.exp(x) for x in row)) for n, row in enumerate(similarity.tolist())]
    columns = [-math.log(math.exp(c[n]) / sum(math.exp(x) for x in c)) for n, c in enumerate(similarity.T.tolist())]
    assert info_nce(a, b, SCALE, NO_DUPLICATES).item() == pytest.approx((sum(rows) + sum(columns)) / 8, rel=1e-5)


def test_info_nce_of_equal_vectors_is_chance() -> None:
    same = make_units()[:1].expand(4, 8)
    assert info_nce(same, same, SCALE, NO_DUPLICATES).item() == pytest.approx(math.log(4), rel=1e-5)


def test_info_nce_is_near_zero_when_pairs_agree_and_others_do_not() -> None:
    units = torch.eye(4)
    assert info_nce(units, units, torch.tensor(100.0), NO_DUPLICATES).item() < 1e-6


def test_duplicates_are_no_negatives_of_each_other() -> None:
    """Two equal pairs could never be told apart: with them masked the loss still reaches zero."""
    units = torch.eye(4)[[0, 0, 2, 3]]
    duplicates = same_items(torch.tensor([7, 7, 2, 3]))
    assert info_nce(units, units, torch.tensor(100.0), NO_DUPLICATES).item() > 0.3
    assert info_nce(units, units, torch.tensor(100.0), duplicates).item() < 1e-6


def test_gradients_are_finite_where_a_row_has_nothing_but_duplicates() -> None:
    units = make_units().requires_grad_()
    info_nce(units, units, SCALE, torch.ones(4, 4, dtype=torch.bool)).backward()
    assert units.grad is not None
    assert torch.isfinite(units.grad).all()


def test_total_is_the_sum_of_the_four_and_global_the_mean_of_three() -> None:
    units = Latents(make_units(0), make_units(1), make_units(2), make_units(3))
    losses = contrastive_losses(units, SCALE, NO_DUPLICATES)
    parts = losses.text_image + losses.text_audio + losses.image_audio + losses.global_modal
    torch.testing.assert_close(losses.total, parts)
    each = [info_nce(units.global_, other, SCALE, NO_DUPLICATES) for other in units[:3]]
    torch.testing.assert_close(losses.global_modal, sum(each) / 3)
    assert all(loss.shape == () for loss in losses)
    assert Losses._fields == ("total", "text_image", "text_audio", "image_audio", "global_modal")


def test_same_items_compares_each_with_each() -> None:
    assert same_items(torch.tensor([4, -9, 4])).tolist() == [
        [True, False, True],
        [False, True, False],
        [True, False, True],
    ]


def test_mean_and_deviation_of_a_series() -> None:
    moments = RunningMoments(torch.device("cpu"))
    values = torch.tensor([3.0, 5.0, 10.0])
    for value in values:
        moments.add(value)
    torch.testing.assert_close(moments.mean(), values.double().mean())
    torch.testing.assert_close(moments.std(), values.double().std(correction=0))
    assert moments.count == 3


def test_equal_values_do_not_deviate() -> None:
    moments = RunningMoments(torch.device("cpu"))
    for _ in range(1000):
        moments.add(torch.tensor(0.1, dtype=torch.float16))
    assert moments.std().item() < 1e-8


def test_a_value_that_is_not_finite_shows() -> None:
    moments = RunningMoments(torch.device("cpu"))
    moments.add(torch.tensor(math.nan))
    assert math.isnan(moments.mean().item())


def test_values_are_summed_without_their_gradients() -> None:
    moments = RunningMoments(torch.device("cpu"))
    moments.add(torch.ones((), requires_grad=True) * 2)
    assert not moments.mean().requires_grad
