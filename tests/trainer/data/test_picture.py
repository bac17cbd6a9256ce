from dataclasses import replace
from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from tensorboard_sidecar.trainer.data.picture import BACKGROUNDS_RGB, COLOURS_RGB, draw
from tensorboard_sidecar.trainer.data.scenes import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, Scene, different_scenes

SCENE = Scene("circle", "red", "large", 1, "left", "square", "blue", "black")


def _pixels(scene: Scene, seed: int = 0) -> NDArray[np.int64]:
    return np.asarray(draw(scene, 96, Random(seed))).astype(np.int64)


def _where(pixels: NDArray[np.int64], colour: str) -> NDArray[np.int64]:
    """Rows (y, x) of the pixels of a colour."""
    return np.argwhere(np.abs(pixels - COLOURS_RGB[colour]).sum(axis=2) < 12)


def test_every_shape_colour_and_background_can_be_drawn() -> None:
    assert set(COLOURS_RGB) == set(COLOURS)
    assert set(BACKGROUNDS_RGB) == set(BACKGROUNDS)
    for shape in SHAPES:
        assert len(_where(_pixels(replace(SCENE, shape=shape)), "red")) > 100


def test_the_same_scene_and_seed_give_the_same_picture_and_another_seed_another() -> None:
    assert np.array_equal(_pixels(SCENE), _pixels(SCENE))
    assert not np.array_equal(_pixels(SCENE), _pixels(SCENE, seed=1))


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_group_stands_where_the_relation_says(relation: str) -> None:
    for seed in range(5):
        pixels = _pixels(replace(SCENE, relation=relation, count=3), seed)
        y, x = _where(pixels, "red").mean(axis=0) - _where(pixels, "blue").mean(axis=0)
        apart = {"left": -x, "right": x, "above": -y, "below": y}[relation]
        assert apart > 30


def test_more_and_larger_shapes_cover_more() -> None:
    def covered(count: int, size: str) -> int:
        return len(_where(_pixels(replace(SCENE, count=count, size=size)), "red"))

    assert covered(1, "small") * 2 < covered(1, "large")
    for size in ("small", "large"):
        assert covered(1, size) * 1.5 < covered(2, size) < covered(3, size) / 1.2


def test_shapes_of_any_scene_lie_inside_the_picture_and_apart() -> None:
    for scene in different_scenes(60, Random(3)):
        pixels = _pixels(scene, seed=9)
        for colour in (scene.colour, scene.other_colour):
            found = _where(pixels, colour)
            assert len(found) > 20, scene
            assert found.min() > 0, scene
            assert found.max() < 95, scene
