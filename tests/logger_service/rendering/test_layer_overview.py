from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering import layer_overview as module
from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.logger_service.rendering.layer_overview import (
    HEIGHT_MAX,
    OCTAVE_MIN,
    SIDE_WIDTH,
    LayerShares,
    lay_out,
    layer_overview,
)
from tensorboard_sidecar.logger_service.rendering.text import ELLIPSIS, coverage
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX, TAGS_MAX
from tensorboard_sidecar.protocol.messages import TensorSummary

Summarise = Callable[[npt.ArrayLike], TensorSummary]
SPAN = (-24, 4)
Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]
Layers = list[tuple[str, TensorSummary]]


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


def test_shared_folders_are_left_out() -> None:
    names = ["weights/conv1.weight", "weights/conv1.bias"]
    assert lay_out(names, SPAN).names == ("conv1.weight", "conv1.bias")
    assert lay_out(["a/b", "c/d"], SPAN).names == ("a/b", "c/d")
    assert lay_out(["", "/"], SPAN).names == ("", "/")


def test_long_names_are_cut_on_the_left_up_to_a_dot() -> None:
    name = "model.encoder.transformer.layers.11.self_attention.query.weight"
    shown = lay_out([name], SPAN).names[0]
    assert shown.startswith(ELLIPSIS)
    assert name.endswith("." + shown.removeprefix(ELLIPSIS))


def test_a_long_name_without_a_dot_is_cut_where_it_must_be() -> None:
    shown = lay_out(["W" * 4096], SPAN).names[0]
    assert shown.startswith(ELLIPSIS + "W")
    assert lay_out(["W" * 4096], SPAN).names_width <= 340


@pytest.mark.parametrize("layers", [1, 2, 10, 62, 400, 401, HEIGHT_MAX + 1, TAGS_MAX])
def test_any_number_of_layers_gives_a_picture_within_limits(layers: int) -> None:
    layout = lay_out([f"layer{i}" for i in range(layers)], SPAN)
    assert layout.rows_height <= HEIGHT_MAX
    assert max(layout.size) <= IMAGE_SIDE_MAX
    assert layout.stride * layout.row_height >= 11, "names do not overlap"
    assert len(layout.names) == -(-layout.rows // layout.stride)


def test_up_to_400_layers_each_has_its_name() -> None:
    assert lay_out([f"layer{i}" for i in range(400)], SPAN).stride == 1


@pytest.mark.parametrize("span", [(-12, 0), (-40, 4), (-136, 128)])
def test_parts_stand_beside_each_other_whatever_the_span(span: tuple[int, int]) -> None:
    layout = lay_out(["a", "b"], span)
    places = (layout.zeros_x, layout.octaves_x, layout.not_finite_x, layout.bar_x, layout.size[0])
    assert list(places) == sorted(set(places))
    assert layout.octaves_width <= 560


def draw(layers: Layers, step: int = 3, title: str = "gradients") -> Picture:
    return layer_overview(layers, title=title, step=step)


def resnet(summarise: Summarise) -> Layers:
    generator = np.random.default_rng(0)
    return [
        (f"weights/layer{i // 16}.{i}.conv.weight", summarise(generator.normal(0, 2.0 ** -(i % 9), 500)))
        for i in range(62)
    ]


def pixel(pixels: Pixels, layers: Layers, row: int, octave: int) -> list[int]:
    """Return the colour of the left part of a cell, where no mark of the mean square lies."""
    layout = _layout(layers)
    x = layout.octaves_x + (octave - layout.low) * layout.octave_width + layout.octave_width // 3
    colour: list[int] = pixels[layout.top + row * layout.row_height + 2, x].tolist()
    return colour


def _layout(layers: Layers) -> module._Layout:
    return lay_out([name for name, _ in layers], LayerShares.of([s for _, s in layers]).span())


def test_a_vanishing_and_an_exploding_layer_lie_apart_from_the_rest(decode: Decode, summarise: Summarise) -> None:
    usual = np.full(100, 0.7)
    layers = [("usual", summarise(usual)), ("gone", summarise(usual * 2.0**-40)), ("up", summarise(usual * 2.0**20))]
    pixels = decode(draw(layers))
    full = theme.colours(theme.SEQUENTIAL, [1.0])[0].tolist()
    where = {
        (row, octave) for row in range(3) for octave in (-41, -1, 19) if pixel(pixels, layers, row, octave) == full
    }
    assert where == {(0, -1), (1, -41), (2, 19)}


def test_darker_cells_hold_more_of_the_values(decode: Decode, summarise: Summarise) -> None:
    layers = [("layer", summarise([1.1] * 90 + [0.3] * 9 + [0.01]))]
    pixels = decode(draw(layers))
    brightness = [sum(pixel(pixels, layers, 0, octave)) for octave in (0, -2, -7, -5)]
    assert brightness == sorted(brightness)
    assert len(set(brightness)) == 4


def test_zeros_and_what_is_not_finite_have_columns_of_their_own(decode: Decode, summarise: Summarise) -> None:
    many = np.ones(10_000)
    layers = [
        ("fine", summarise(many)),
        ("zero", summarise(many * 0)),
        ("one infinity", summarise(np.append(many, -np.inf))),
        ("one NaN", summarise(np.append(many, np.nan))),
    ]
    pixels = decode(draw(layers)).astype(int)
    layout = _layout(layers)
    rows = layout.top + np.arange(4) * layout.row_height + layout.row_height // 2
    columns = np.array([layout.zeros_x, layout.not_finite_x, layout.not_finite_x + SIDE_WIDTH]) + SIDE_WIDTH // 2
    colours = pixels[np.ix_(rows, columns)]
    drawn = (colours != theme.GROUND).any(axis=2)
    np.testing.assert_array_equal(drawn, [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    for alarm in (colours[2, 1], colours[3, 2]):
        assert alarm[0] > alarm[1] + 80, "one in ten thousand is red already"
        assert alarm[0] > alarm[2] + 80


def test_the_mark_stands_at_the_root_mean_square(decode: Decode, summarise: Summarise) -> None:
    layers = [("layer", summarise([0.125, -8.0]))]
    pixels = decode(draw(layers))
    layout = _layout(layers)
    marked = np.flatnonzero((pixels[layout.top + 2] == theme.ACCENT).all(axis=1))
    expected = layout.octaves_x + (np.log2(np.sqrt((0.125**2 + 64) / 2)) - layout.low) * layout.octave_width
    assert marked.size == 3
    assert marked.mean() == pytest.approx(expected, abs=1)


def test_the_note_counts_layers_that_are_not_finite(summarise: Summarise) -> None:
    note = module._note(LayerShares.of([summarise([1.0]), summarise([np.nan]), summarise([np.inf])]))
    assert note.startswith("3 layers · 2 with infinities or NaN · ")
    assert module._note(LayerShares.of([summarise([1.0])])).startswith("1 layer · colour")


@pytest.mark.parametrize("values", [[], [0.0], [np.nan], [np.inf, -np.inf], [1e-45, 3.4e38], [5.0]])
def test_any_tensor_is_drawn(values: list[float], summarise: Summarise) -> None:
    assert draw([("layer", summarise(values))]).png


def test_many_layers_are_drawn(decode: Decode, summarise: Summarise) -> None:
    kinds = [summarise([2.0**-i, 1.0]) for i in range(10)]
    pixels = decode(draw([(f"block.{i}.weight", kinds[i % 10]) for i in range(5000)]))
    assert 2000 < pixels.shape[0] < 5000


@pytest.mark.parametrize("words", ["", "$\\frac{1}{2", "слой 层 🎉", "x" * 512, "a\nb\x00"])
def test_any_name_is_drawn_as_it_is(words: str, summarise: Summarise) -> None:
    assert draw([(words, summarise([1.0]))], title=words).png


def test_what_was_drawn_before_does_not_change_a_picture(summarise: Summarise) -> None:
    layers = resnet(summarise)
    first = draw(layers)
    for number in range(1, 7):  # more layouts than are kept
        draw(layers[:number])
    assert draw(layers) == first
    module._static_parts.cache_clear()
    coverage.cache_clear()
    assert draw(layers) == first
    assert draw(layers, step=4) != first


def test_a_mean_square_beyond_all_octaves_stays_on_the_axis(decode: Decode, summarise: Summarise) -> None:
    usual = summarise([1.0])
    for sum_squares in (1e300, 1e-300):
        layers = [("wrong", msgspec.structs.replace(usual, sum_squares=sum_squares))]
        layout = _layout(layers)
        marked = (decode(draw(layers)) == theme.ACCENT).all(axis=2)[layout.top]
        places = np.flatnonzero(marked)
        assert layout.octaves_x - 2 <= places.min()
        assert places.max() <= layout.octaves_x + layout.octaves_width + 2


def test_no_layers_too_many_and_impossible_buckets_are_refused(summarise: Summarise) -> None:
    usual = summarise([1.0])
    with pytest.raises(Malformed, match="no layers; expected at least one"):
        draw([])
    with pytest.raises(TooLarge, match="layers"):
        draw([("layer", usual)] * (TAGS_MAX + 1))
    indexes = pack_array(np.array([255 << 3], np.uint16))
    with pytest.raises(Malformed, match="bucket index"):
        draw([("layer", msgspec.structs.replace(usual, indexes=indexes))])
