import math

import torch

from tensorboard_sidecar.trainer.moments import RunningMoments


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
