"""How pictures look: colours, text styles, colour maps, and settings that do not depend on the host."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.font_manager import FontProperties

Pixels: TypeAlias = npt.NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

# Layouts are in pixels. A power of two makes pixels / DPI * DPI exact, so that matplotlib truncates no side.
DPI: Final = 128

PAPER: Final[Colour] = (255, 255, 255)
INK: Final[Colour] = (31, 35, 40)
MUTED: Final[Colour] = (101, 109, 118)
LINE: Final[Colour] = (196, 201, 206)
GRID: Final[Colour] = (217, 221, 225)
GROUND: Final[Colour] = (246, 247, 248)
NOT_FINITE: Final[Colour] = (140, 140, 140)
ACCENT: Final[Colour] = (240, 140, 20)

# Blue for negative, red for positive, nearly white for zero; dark at both ends, also for eyes that see no red.
DIVERGING: Final = ("#12315f", "#2a68ad", "#86b4d9", "#f5f4f1", "#eb9f84", "#c43f3c", "#6f0c24")
SEQUENTIAL: Final = ("#eff4f9", "#bcd6ea", "#74add2", "#3579b3", "#14467a", "#0a2444")
ALARM: Final = ("#e8604c", "#c9302c", "#7d0f18")


@dataclass(frozen=True, slots=True)
class TextStyle:
    """A size in pixels, a colour, a weight; the face is the DejaVu Sans that comes with matplotlib."""

    size_pixels: int
    colour: Colour
    bold: bool = False


TITLE: Final = TextStyle(15, INK, bold=True)
STEP: Final = TextStyle(14, MUTED)
NOTE: Final = TextStyle(11, MUTED)
LABEL: Final = TextStyle(13, INK)
TICK: Final = TextStyle(11, MUTED)
CAPTION: Final = TextStyle(12, INK)


def font_path(style: TextStyle) -> str:
    """Return the file of the face: named by path, so that no font of the host takes its place."""
    name = "DejaVuSans-Bold.ttf" if style.bold else "DejaVuSans.ttf"
    return str(Path(mpl.get_data_path(), "fonts", "ttf", name))


def font(style: TextStyle) -> FontProperties:
    """Return matplotlib's description of the style's face and size."""
    return FontProperties(fname=font_path(style), size=style.size_pixels * 72 / DPI)


def fraction(colour: Colour) -> tuple[float, float, float]:
    """Return the colour as matplotlib takes it, 0 to 1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def colours(anchors: Sequence[str], positions: npt.ArrayLike) -> Pixels:
    """Return uint8 ``[N, 3]``: the colour map through ``anchors`` at ``positions`` from 0 to 1.

    Maps are made here and not taken from matplotlib's registry, whose number of levels is a setting of the host.
    """
    colour_map = LinearSegmentedColormap.from_list("", list(anchors), N=1024)
    rgba: Pixels = colour_map(np.asarray(positions, np.float64), bytes=True)
    return np.ascontiguousarray(rgba[..., :3])


# What of the host's matplotlibrc can change a pixel or give a warning.
_DRAWING_SETTINGS: Final = (
    "agg.",
    "axes.",
    "figure.",
    "font.",
    "grid.",
    "image.",
    "lines.",
    "patch.",
    "path.",
    "text.",
    "xaxis.",
    "xtick.",
    "yaxis.",
    "ytick.",
)
_DEFAULTS: Final[dict[Any, Any]] = {
    name: value for name, value in mpl.rcParamsDefault.items() if name.startswith(_DRAWING_SETTINGS)
}
_TEXT_DEFAULTS: Final = {name: value for name, value in _DEFAULTS.items() if name.startswith(("font.", "text."))}


def settings() -> AbstractContextManager[None]:
    """Return a context in which matplotlib's own defaults hold, whatever the host's matplotlibrc says."""
    return _holding(_DEFAULTS)


def text_settings() -> AbstractContextManager[None]:
    """Return the same for what a line of text depends on."""
    return _holding(_TEXT_DEFAULTS)


def _holding(defaults: dict[Any, Any]) -> AbstractContextManager[None]:
    """Return a context in which the settings hold: one that does nothing, a millisecond less, where they do already."""
    if all(mpl.rcParams[name] == value for name, value in defaults.items()):
        return nullcontext()
    return mpl.rc_context(defaults)
