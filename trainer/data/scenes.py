"""Synthetic scenes for pictures and captions.

A scene is a group of equal shapes beside another shape. The attributes come from a small vocabulary, so that a small
model learns the task in minutes. No two scenes of a set are equal, so that each caption has a single correct picture.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS: Final = ("red", "orange", "yellow", "green", "blue", "purple")
BACKGROUNDS: Final = ("black", "gray", "white", "brown")
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
        scene = _any_scene(random)
        if scene not in seen:
            seen.add(scene)
            yield scene


def _any_scene(random: Random) -> Scene:
    shape, other_shape = random.sample(SHAPES, 2)
    colour, other_colour = random.sample(COLOURS, 2)
    return Scene(
        shape=shape,
        colour=colour,
        size=random.choice(SIZES),
        count=random.choice(COUNTS),
        relation=random.choice(RELATIONS),
        other_shape=other_shape,
        other_colour=other_colour,
        background=random.choice(BACKGROUNDS),
    )


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
