"""The look of pictures: colours, text styles, colour maps, and matplotlib settings independent of the host."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.font_manager import FontProperties

Pixels: TypeAlias = npt.NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

# Layouts are in pixels. With a power of two, pixels / DPI * DPI is exact, so that matplotlib truncates no size.
DPI: Final = 128

PAPER: Final[Colour] = (255, 255, 255)
INK: Final[Colour] = (31, 35, 40)
MUTED: Final[Colour] = (101, 109, 118)
LINE: Final[Colour] = (196, 201, 206)
GRID: Final[Colour] = (217, 221, 225)
GROUND: Final[Colour] = (246, 247, 248)
NOT_FINITE: Final[Colour] = (140, 140, 140)
ACCENT: Final[Colour] = (240, 140, 20)

# Blue for negative, red for positive, nearly white for zero; both ends are dark, also for red-blind readers.
DIVERGING: Final = ("#12315f", "#2a68ad", "#86b4d9", "#f5f4f1", "#eb9f84", "#c43f3c", "#6f0c24")
SEQUENTIAL: Final = ("#eff4f9", "#bcd6ea", "#74add2", "#3579b3", "#14467a", "#0a2444")
ALARM: Final = ("#e8604c", "#c9302c", "#7d0f18")


@dataclass(frozen=True, slots=True)
class TextStyle:
    """Size in pixels, colour and weight of text; the font is the DejaVu Sans that comes with matplotlib."""

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
    """Return the path of the font file; a path, because a font name could find another font of the host."""
    import matplotlib as mpl  # noqa: PLC0415 - see the room

    name = "DejaVuSans-Bold.ttf" if style.bold else "DejaVuSans.ttf"
    return str(Path(mpl.get_data_path(), "fonts", "ttf", name))


def font(style: TextStyle) -> "FontProperties":
    """Return the style's font and size for matplotlib."""
    from matplotlib.font_manager import FontProperties  # noqa: PLC0415 - see the room

    return FontProperties(fname=font_path(style), size=style.size_pixels * 72 / DPI)


def fraction(colour: Colour) -> tuple[float, float, float]:
    """Return the colour for matplotlib, with components from 0 to 1."""
    red, green, blue = colour
    return red / 255, green / 255, blue / 255


def colours(anchors: Sequence[str], positions: npt.ArrayLike) -> Pixels:
    """Return the colours at ``positions`` (0 to 1) of the colour map through ``anchors``, uint8 ``[N, 3]``.

    The map is made here: the number of levels of matplotlib's registered maps is a setting of the host.
    """
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - see the room

    colour_map = LinearSegmentedColormap.from_list("", list(anchors), N=1024)
    rgba: Pixels = colour_map(np.asarray(positions, np.float64), bytes=True)
    return np.ascontiguousarray(rgba[..., :3])


# The prefixes of settings in a host's matplotlibrc that can change pixels or raise warnings.
_DRAWING_SETTINGS: Final = re.compile(
    r"(agg|axes|figure|font|grid|image|lines|patch|path|text|xaxis|xtick|yaxis|ytick)\."
)


def settings(*, text_only: bool = False) -> AbstractContextManager[None]:
    """Return a context with matplotlib's default settings instead of the host's matplotlibrc.

    With ``text_only``, only the settings that affect a line of text. The context is empty, a millisecond faster, if
    they are already set.
    """
    import matplotlib as mpl  # noqa: PLC0415 - see the room

    defaults = _defaults(text_only=text_only)
    if all(mpl.rcParams[name] == value for name, value in defaults.items()):
        return nullcontext()
    return mpl.rc_context(defaults)


@cache
def _defaults(*, text_only: bool) -> dict[Any, Any]:
    import matplotlib as mpl  # noqa: PLC0415 - see the room

    found = {name: value for name, value in mpl.rcParamsDefault.items() if _DRAWING_SETTINGS.match(name)}
    return {name: value for name, value in found.items() if name.startswith(("font.", "text.")) or not text_only}
