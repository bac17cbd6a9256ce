"""Draws a scene as a picture."""

import math
from random import Random
from typing import Final

from PIL import Image, ImageDraw

from tensorboard_sidecar.trainer.data.scenes import Scene

RGB = tuple[int, int, int]

COLOURS_RGB: Final[dict[str, RGB]] = {
    "red": (214, 40, 40),
    "orange": (247, 137, 26),
    "yellow": (250, 215, 50),
    "green": (52, 168, 83),
    "blue": (48, 99, 220),
    "purple": (146, 64, 190),
}
BACKGROUNDS_RGB: Final[dict[str, RGB]] = {
    "black": (22, 22, 26),
    "gray": (138, 140, 145),
    "white": (244, 243, 239),
    "brown": (104, 70, 46),
}

# All lengths are fractions of the picture's side.
_RADIUS: Final = {"small": 0.075, "large": 0.135}
_OTHER_RADIUS: Final = 0.125
_SPACING: Final = {1: (0.0,), 2: (-0.19, 0.19), 3: (-0.315, 0.0, 0.315)}
_OFFSET: Final = 0.23
"""The distance of the group, and of the other shape, from the centre."""
_JITTER: Final = 0.025
_AXIS: Final[dict[str, tuple[int, int]]] = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}

_OVERSAMPLING: Final = 4
"""Pictures are drawn this much larger and then reduced, because Pillow draws without antialiasing."""


def draw(scene: Scene, side_px: int, random: Random) -> Image.Image:
    """Return an RGB picture of ``side_px`` squared; ``random`` varies positions, sizes and angles a little."""
    large = side_px * _OVERSAMPLING
    image = Image.new("RGB", (large, large), BACKGROUNDS_RGB[scene.background])
    brush = ImageDraw.Draw(image)
    background = BACKGROUNDS_RGB[scene.background]
    dx, dy = _AXIS[scene.relation]
    for along in _SPACING[scene.count]:
        x = 0.5 + dx * _OFFSET + abs(dy) * along
        y = 0.5 + dy * _OFFSET + abs(dx) * along
        radius = _RADIUS[scene.size]
        _shape(brush, scene.shape, COLOURS_RGB[scene.colour], background, _placed(x, y, radius, random), large)
    place = _placed(0.5 - dx * _OFFSET, 0.5 - dy * _OFFSET, _OTHER_RADIUS, random)
    _shape(brush, scene.other_shape, COLOURS_RGB[scene.other_colour], background, place, large)
    return image.resize((side_px, side_px), Image.Resampling.LANCZOS)


def _placed(x: float, y: float, radius: float, random: Random) -> tuple[float, float, float, float]:
    """Return x, y, radius and angle (radians), each varied a little."""
    return (
        x + random.uniform(-_JITTER, _JITTER),
        y + random.uniform(-_JITTER, _JITTER),
        radius * random.uniform(0.93, 1.07),
        random.uniform(-0.15, 0.15),
    )


def _shape(
    brush: ImageDraw.ImageDraw,
    shape: str,
    colour: RGB,
    background: RGB,
    place: tuple[float, float, float, float],
    side: int,
) -> None:
    x, y, radius, turn = place[0] * side, place[1] * side, place[2] * side, place[3]
    if shape in {"circle", "ring"}:
        brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        if shape == "ring":
            hole = radius * 0.55
            brush.ellipse((x - hole, y - hole, x + hole, y + hole), fill=background)
        return
    corners = [(x + radius * r * math.sin(a + turn), y - radius * r * math.cos(a + turn)) for r, a in _CORNERS[shape]]
    brush.polygon(corners, fill=colour)


def _cross() -> list[tuple[float, float]]:
    """Return the twelve corners of a cross in polar coordinates: arms 1 long and 2/3 wide."""
    quarter = [(1 / 3, 1.0), (1 / 3, 1 / 3), (1.0, 1 / 3)]
    corner = [(math.hypot(x, y), math.atan2(x, y)) for x, y in quarter]
    return [(r, a + k * math.pi / 2) for k in range(4) for r, a in corner]


_CORNERS: Final[dict[str, list[tuple[float, float]]]] = {
    "square": [(1.2, (2 * k + 1) * math.pi / 4) for k in range(4)],
    "triangle": [(1.15, 2 * k * math.pi / 3) for k in range(3)],
    "star": [(1.2 if k % 2 == 0 else 0.5, k * math.pi / 5) for k in range(10)],
    "cross": _cross(),
}
"""Corners as (distance from the middle in radii, angle from upwards in radians, clockwise)."""
