from collections.abc import Callable

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from tensorboard_sidecar.logger_service.rendering import layer_overview as module
from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.layer_overview import layer_overview
from tensorboard_sidecar.logger_service.rendering.layer_shares import LayerShares
from tensorboard_sidecar.logger_service.rendering.overview_layout import SIDE_WIDTH, Layout, lay_out
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.logger_service.rendering.text import coverage
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.messages import TensorSummary

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]
Summarise = Callable[[npt.ArrayLike], TensorSummary]
Layers = list[tuple[str, TensorSummary]]


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


def _layout(layers: Layers) -> Layout:
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
