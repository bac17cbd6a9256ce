import torch

from tensorboard_sidecar.trainer.model.padding import MaskedMean, Valid, ZeroPadding


def test_valid_positions_are_the_first_ones() -> None:
    mask = Valid()(torch.tensor([2, 0, 3]), 3)
    assert mask.tolist() == [[True, True, False], [False, False, False], [True, True, True]]


def test_masked_mean_leaves_padding_out() -> None:
    features = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [99.0, 99.0]]])
    assert MaskedMean()(features, torch.tensor([[True, True, False]])).tolist() == [[2.0, 20.0]]


def test_masked_mean_of_nothing_is_zero() -> None:
    assert MaskedMean()(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


def test_zero_padding_keeps_what_is_valid() -> None:
    masked = ZeroPadding()(torch.ones(1, 2, 3), torch.tensor([[True, False, True]]))
    assert masked.tolist() == [[[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]]
