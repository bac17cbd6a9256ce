"""Figures of matplotlib, drawn where they are given."""

import subprocess
import sys
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.ids import plain
from torch.utils.tensorboard._utils import figure_to_image

from tensorboard_sidecar.telemetry.values.figures import rasterise

plt: Any = import_module("matplotlib.pyplot")  # as a user's program has it; this project makes figures without pyplot


def make_figure() -> Figure:
    figure = plt.figure(figsize=(2, 1), dpi=50, facecolor="red")
    figure.add_subplot().plot([1, 3, 2])
    return figure


def test_pixels_are_those_of_torchs_writer() -> None:
    figure = make_figure()
    ours = rasterise(figure, close=False)
    np.testing.assert_array_equal(ours, np.moveaxis(figure_to_image(figure), 0, 2))
    assert plt.get_fignums() == []


def test_a_figure_without_pyplot_is_drawn() -> None:
    assert rasterise(Figure(figsize=(2, 1), dpi=10), close=True).shape == (10, 20, 3)


def test_a_figure_is_closed_when_drawing_fails() -> None:
    figure = make_figure()
    figure.gca().set_title("$\\no$")
    with pytest.raises(ValueError, match=r"Unknown symbol|ParseFatalException"):  # matplotlib 3.8 says the latter
        rasterise(figure, close=True)
    assert plt.get_fignums() == []


@pytest.mark.parametrize("rubbish", [None, 5, "figure", object()], ids=plain)
def test_what_is_no_figure_is_an_error(rubbish: object) -> None:
    with pytest.raises((AttributeError, TypeError)):
        rasterise(rubbish, close=True)  # type: ignore[arg-type]


def test_matplotlib_is_imported_for_the_first_figure_only() -> None:
    code = "import sys, tensorboard_sidecar.telemetry.writer.methods; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
