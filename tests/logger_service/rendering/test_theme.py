"""The host must not show in a picture: no setting, font, language or backend of its own."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import ImageColor

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.layer_overview import layer_overview
from tensorboard_sidecar.logger_service.rendering.pictures import contact_sheet
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import TensorSummary

HOSTILE_SETTINGS = """
agg.path.chunksize: 7
axes.facecolor: black
axes.formatter.use_locale: True
axes.grid: True
axes.linewidth: 9
axes.unicode_minus: False
figure.autolayout: True
figure.dpi: 37
figure.facecolor: red
font.family: serif
font.size: 31
image.cmap: jet
image.interpolation: bicubic
image.lut: 5
image.origin: lower
lines.antialiased: False
path.sketch: 5, 50, 2
savefig.dpi: 37
text.antialiased: False
text.color: green
text.hinting: none
text.usetex: True
xtick.direction: in
ytick.labelsize: 30
"""

# Runs this very file in another process.
PROGRAM = "import runpy, sys; print(runpy.run_path(sys.argv[1])['digest']())"


def digest() -> str:
    """Return a digest of a picture of each kind."""
    values = np.linspace(-1, 1, 400, dtype=np.float32).reshape(20, 20)
    indexes, counts = np.array([1016, 1024], np.uint16), np.ones(2, np.uint64)
    summary = TensorSummary(3, 1, 0, 0, 0, 0.0, 2.0, 3.0, 5.0, 3, pack_array(indexes), pack_array(counts))
    title, step = "Title $x$ Привет", 1_234_567
    labels: dict[str, Any] = {"row_label": "text", "column_label": "image", "title": title, "step": step}
    pictures = (
        heatmap(values, value_range=(-1.0, 1.0), **labels),
        heatmap(values * 3e-5, value_range=None, **labels),
        layer_overview([(f"weights/layer{i}", summary) for i in range(50)], title=title, step=step),
        contact_sheet(np.full((5, 300, 200, 3), 90, np.uint8), ["a caption"] * 5, title=title, step=step),
    )
    return hashlib.sha256(b"".join(picture.png for picture in pictures)).hexdigest()


def test_another_process_on_a_strange_host_draws_the_same_bytes(tmp_path: Path) -> None:
    """Other HOME, language, matplotlibrc, backend and working directory; warnings are errors there, too."""
    (tmp_path / "matplotlibrc").write_text(HOSTILE_SETTINGS)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "MPLCONFIGDIR": str(tmp_path),
        "MPLBACKEND": "svg",
        "LANG": "tr_TR.UTF-8",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "PYTHONHASHSEED": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[3] / "src"),
    }
    other = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, __file__],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert other.stdout.strip() == digest(), other.stderr


def test_settings_hold_inside_and_leave_no_trace() -> None:
    with mpl.rc_context({"font.size": 33, "text.usetex": True}):
        with theme.settings():
            assert mpl.rcParams["font.size"] == 10
            assert not mpl.rcParams["text.usetex"]
        assert mpl.rcParams["font.size"] == 33


def test_fonts_are_those_that_come_with_matplotlib() -> None:
    for style in (theme.TITLE, theme.NOTE):
        assert Path(theme.font_path(style)).is_relative_to(mpl.get_data_path())
        assert theme.font(style).get_file() == theme.font_path(style)


@pytest.mark.parametrize("anchors", [theme.DIVERGING, theme.SEQUENTIAL, theme.ALARM])
def test_colour_maps_run_through_their_anchors(anchors: tuple[str, ...]) -> None:
    drawn = theme.colours(anchors, np.linspace(0, 1, len(anchors))).astype(int)
    expected = np.array([ImageColor.getrgb(anchor) for anchor in anchors])
    assert np.abs(drawn - expected).max() <= 1


@pytest.mark.parametrize("anchors", [theme.SEQUENTIAL, theme.ALARM])
def test_maps_of_amounts_get_darker_all_the_way(anchors: tuple[str, ...]) -> None:
    luminance = theme.colours(anchors, np.linspace(0, 1, 64)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) < 0).all()


def test_the_diverging_map_gets_darker_to_both_sides() -> None:
    luminance = theme.colours(theme.DIVERGING, np.linspace(0, 1, 65)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance[:33]) > 0).all()
    assert (np.diff(luminance[32:]) < 0).all()


def test_grey_for_what_is_not_finite_is_far_from_every_colour_of_the_maps() -> None:
    for anchors in (theme.DIVERGING, theme.SEQUENTIAL):
        distance = theme.colours(anchors, np.linspace(0, 1, 256)).astype(int) - theme.NOT_FINITE
        assert np.abs(distance).max(axis=1).min() > 25
