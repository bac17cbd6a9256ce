"""Synthetic scenes: their random choice, captions and pictures.

A scene is a group of equal shapes beside another shape. The attributes come from a small vocabulary, so that a small
model learns the task in minutes. No two scenes of a set are equal, so that each caption has a single correct picture.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image, ImageDraw

RGB = tuple[int, int, int]
Place = tuple[float, float, float, float]  # x, y and radius as shares of the picture's side, and an angle in radians

SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
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
COLOURS: Final = tuple(COLOURS_RGB)
BACKGROUNDS: Final = tuple(BACKGROUNDS_RGB)
SIZES: Final = ("small", "large")
COUNTS: Final = (1, 2, 3)
RELATIONS: Final = ("left", "right", "above", "below")
"""The position of the group relative to the other shape."""

CAPTIONS_PER_SCENE: Final = 5
SCENES_MAX: Final = 20_000
"""There are 86,400 different scenes; with at most this many, rejection of duplicates stays fast."""

_OPPOSITE: Final = {"left": "right", "right": "left", "above": "below", "below": "above"}
_PHRASES: Final = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
_SIZE_WORDS: Final = {"small": ("small", "tiny"), "large": ("large", "big")}

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


@dataclass(frozen=True, slots=True)
class Scene:
    """A group of ``count`` equal shapes, and another shape that differs from the group in shape and colour."""

    shape: str
    colour: str
    size: str
    count: int
    relation: str
    other_shape: str
    other_colour: str
    background: str


def different_scenes(number: int, random: Random) -> Iterator[Scene]:
    """Yield ``number`` random scenes, no two equal. Raises ValueError for a number above SCENES_MAX."""
    if not 0 <= number <= SCENES_MAX:
        raise ValueError(f"asked for {number} scenes; expected 0 to {SCENES_MAX}")
    seen: set[Scene] = set()
    while len(seen) < number:
        shape, other_shape = random.sample(SHAPES, 2)
        colour, other_colour = random.sample(COLOURS, 2)
        size, count = random.choice(SIZES), random.choice(COUNTS)
        relation, background = random.choice(RELATIONS), random.choice(BACKGROUNDS)
        scene = Scene(shape, colour, size, count, relation, other_shape, other_colour, background)
        if scene not in seen:
            seen.add(scene)
            yield scene


def captions_of(scene: Scene, random: Random) -> list[str]:
    """Return five different English sentences about the scene, in random order.

    Each sentence names shapes, colours, count, size and relation; three of the five also name the background.
    """
    group, other = _group(scene, random), _with_article(f"{scene.other_colour} {scene.other_shape}")
    is_are = "is" if scene.count == 1 else "are"
    forth = random.choice(_PHRASES[scene.relation])
    back = random.choice(_PHRASES[_OPPOSITE[scene.relation]])
    sentences = [
        f"{group} {forth} {other} on {scene.background}",
        f"on {scene.background}, {group} {is_are} {forth} {other}",
        f"{other} {back} {group} on {scene.background}",
        f"there {is_are} {group} {forth} {other}",
        f"{other} is {back} {group}",
    ]
    random.shuffle(sentences)
    return [f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences]


def _group(scene: Scene, random: Random) -> str:
    size = random.choice(_SIZE_WORDS[scene.size])
    if scene.count == 1:
        return _with_article(f"{size} {scene.colour} {scene.shape}")
    number = {2: "two", 3: "three"}[scene.count]
    plural = f"{scene.shape}es" if scene.shape.endswith("s") else f"{scene.shape}s"
    return f"{number} {size} {scene.colour} {plural}"


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def draw(scene: Scene, side_px: int, random: Random) -> Image.Image:
    """Return an RGB picture of ``side_px`` squared; ``random`` varies positions, sizes and angles a little."""
    large = side_px * _OVERSAMPLING
    background = BACKGROUNDS_RGB[scene.background]
    image = Image.new("RGB", (large, large), background)
    brush = ImageDraw.Draw(image)
    dx, dy = _AXIS[scene.relation]
    for along in _SPACING[scene.count]:
        x = 0.5 + dx * _OFFSET + abs(dy) * along
        y = 0.5 + dy * _OFFSET + abs(dx) * along
        radius = _RADIUS[scene.size]
        _shape(brush, scene.shape, COLOURS_RGB[scene.colour], background, _placed(x, y, radius, random), large)
    place = _placed(0.5 - dx * _OFFSET, 0.5 - dy * _OFFSET, _OTHER_RADIUS, random)
    _shape(brush, scene.other_shape, COLOURS_RGB[scene.other_colour], background, place, large)
    return image.resize((side_px, side_px), Image.Resampling.LANCZOS)


def _placed(x: float, y: float, radius: float, random: Random) -> Place:
    """Return x, y, radius and angle, each varied a little."""
    return (
        x + random.uniform(-_JITTER, _JITTER),
        y + random.uniform(-_JITTER, _JITTER),
        radius * random.uniform(0.93, 1.07),
        random.uniform(-0.15, 0.15),
    )


def _shape(brush: ImageDraw.ImageDraw, shape: str, colour: RGB, background: RGB, place: Place, side: int) -> None:
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
