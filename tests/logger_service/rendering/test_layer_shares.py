from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering.layer_shares import OCTAVE_MIN, LayerShares
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import TensorSummary

Summarise = Callable[[npt.ArrayLike], TensorSummary]


def test_shares_of_a_layer_add_up_to_one(summarise: Summarise) -> None:
    shares = LayerShares.of([summarise([0.0, 1.0, -1.5, 0.25, np.nan, np.inf, -np.inf, 2.0])])
    octaves = {int(place) + OCTAVE_MIN: shares.octaves[0, place] for place in np.flatnonzero(shares.octaves[0])}
    assert octaves == {-2: 0.125, 0: 0.25, 1: 0.125}
    assert (shares.zeros[0], shares.infinities[0], shares.nans[0]) == (0.125, 0.25, 0.125)


def test_the_mark_is_the_root_mean_square_of_finite_values(summarise: Summarise) -> None:
    shares = LayerShares.of([summarise([4.0, -4.0, np.nan]), summarise([0.0]), summarise([np.inf]), summarise([])])
    assert shares.root_mean_square_log2[0] == 2.0
    assert np.isnan(shares.root_mean_square_log2[1:]).all()


@pytest.mark.parametrize(
    ("values", "span"),
    [
        ([], (-12, 0)),
        ([1.0], (-8, 4)),
        ([2.0**-20, 1.0], (-20, 4)),
        ([3.4e38, 2e-39], (-132, 128)),
    ],
)
def test_the_span_holds_what_is_there_and_is_round(
    values: list[float], span: tuple[int, int], summarise: Summarise
) -> None:
    assert LayerShares.of([summarise(values)]).span() == span


def test_one_value_in_a_million_does_not_widen_the_span(summarise: Summarise) -> None:
    values = np.full(1_000_000, 0.5, np.float32)
    values[0] = 1e-30
    assert LayerShares.of([summarise(values)]).span()[0] >= -16
    values[0] = 1e20
    low, high = LayerShares.of([summarise(values)]).span()
    assert high >= 57, "its root mean square is seen all the same"
    assert low <= -1


def test_neighbours_are_averaged_into_groups(summarise: Summarise) -> None:
    layers = [summarise([0.0]), summarise([1.0]), summarise([np.nan]), summarise([4.0]), summarise([0.0])]
    grouped = LayerShares.of(layers).grouped(3)
    np.testing.assert_array_equal(grouped.zeros, [0.5, 0.0, 1.0])
    np.testing.assert_array_equal(grouped.nans, [0.0, 0.5, 0.0])
    np.testing.assert_array_equal(grouped.octaves.sum(axis=1), [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(grouped.root_mean_square_log2, [0.0, 2.0, np.nan])


def test_few_layers_are_not_grouped(summarise: Summarise) -> None:
    shares = LayerShares.of([summarise([1.0])] * 3)
    assert shares.grouped(3) is shares


@pytest.mark.parametrize("sum_squares", [np.nan, np.inf, -1.0, 1e308])
@pytest.mark.parametrize("count", [0, 2**64 - 1])
def test_numbers_that_contradict_each_other_give_shares(sum_squares: float, count: int) -> None:
    summary = TensorSummary(
        count=1,
        zeros=0,
        nans=2**63,
        positive_infinities=-5,
        negative_infinities=0,
        minimum=3.0,
        maximum=-3.0,
        sum=0.0,
        sum_squares=sum_squares,
        mantissa_bits=3,
        indexes=pack_array(np.array([1016], np.uint16)),
        counts=pack_array(np.array([count], np.uint64)),
    )
    shares = LayerShares.of([summary])
    everything = np.concatenate((shares.octaves[0], shares.zeros, shares.infinities, shares.nans))
    assert ((everything >= 0) & (everything <= 1)).all()
    low, high = shares.span()
    assert OCTAVE_MIN - 4 <= low < high <= 128
