import re
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tensorboard_sidecar.trainer.data.scenes import (
    BACKGROUNDS,
    BACKGROUNDS_RGB,
    CAPTIONS_PER_SCENE,
    COLOURS,
    COLOURS_RGB,
    COUNTS,
    RELATIONS,
    SCENES_MAX,
    SHAPES,
    SIZES,
    Scene,
    captions_of,
    different_scenes,
    draw,
)

SCENES = st.builds(
    Scene,
    shape=st.sampled_from(SHAPES),
    colour=st.sampled_from(COLOURS),
    size=st.sampled_from(SIZES),
    count=st.sampled_from(COUNTS),
    relation=st.sampled_from(RELATIONS),
    other_shape=st.sampled_from(SHAPES),
    other_colour=st.sampled_from(COLOURS),
    background=st.sampled_from(BACKGROUNDS),
)

NOUN = r"(?:circle|square|triangle|star|cross|ring)"
COLOUR = r"(?:red|orange|yellow|green|blue|purple)"
SIZE = r"(?:small|tiny|large|big)"
GROUP = rf"(?:a {SIZE} {COLOUR} {NOUN}|(?:two|three) {SIZE} {COLOUR} (?:{NOUN}s|crosses))"
OTHER = rf"(?:an orange {NOUN}|a (?!orange){COLOUR} {NOUN})"
WHERE = r"(?:(?:to the )?(?:left|right) of|above|over|below|under)"
BEHIND = r"on (?:black|gray|white|brown)"
SENTENCE = re.compile(
    rf"(?:{GROUP} {WHERE} {OTHER} {BEHIND}|{BEHIND}, {GROUP} (?:is|are) {WHERE} {OTHER}|"
    rf"{OTHER} {WHERE} {GROUP} {BEHIND}|there (?:is|are) {GROUP} {WHERE} {OTHER}|{OTHER} is {WHERE} {GROUP})\."
)


@given(SCENES, st.integers())
def test_captions_are_five_different_sentences_of_the_grammar(scene: Scene, seed: int) -> None:
    captions = captions_of(scene, Random(seed))
    assert len(set(captions)) == CAPTIONS_PER_SCENE
    for caption in captions:
        assert caption[0].isupper()
        assert SENTENCE.fullmatch(caption[0].lower() + caption[1:]), caption
        assert not (re.search(r"\bis (two|three)\b|\bare an? \w+ \w+ \w+ ", caption)), caption


@given(SCENES, st.integers())
def test_captions_say_what_is_in_the_scene_and_nothing_else(scene: Scene, seed: int) -> None:
    for caption in captions_of(scene, Random(seed)):
        said = set(re.findall(r"\w+", caption.lower()))
        assert said & set(COLOURS) == {scene.colour, scene.other_colour}
        assert said & set(BACKGROUNDS) <= {scene.background}
        shapes = {re.sub(r"(?<=s)es$|(?<!s)s$", "", word) for word in said} & set(SHAPES)
        assert shapes == {scene.shape, scene.other_shape}


def test_one_is_and_several_are() -> None:
    one = Scene("cross", "orange", "small", 1, "left", "ring", "blue", "white")
    many = Scene("cross", "orange", "small", 3, "left", "ring", "blue", "white")
    said_of_one = " ".join(captions_of(one, Random(0))).lower()
    said_of_many = " ".join(captions_of(many, Random(0))).lower()
    assert "there is a" in said_of_one
    assert "are" not in said_of_one.split()
    assert "there are three" in said_of_many
    assert "crosses" in said_of_many


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_relation_is_reversed_where_the_other_shape_comes_first(relation: str) -> None:
    scene = Scene("star", "red", "large", 2, relation, "ring", "blue", "black")
    opposite = {"left": "right", "right": "left", "above": "below|under", "below": "above|over"}[relation]
    forth = {"above": "above|over", "below": "below|under"}.get(relation, relation)
    for caption in captions_of(scene, Random(1)):
        expected = opposite if caption.startswith("A blue ring") else forth
        assert re.search(rf"\b({expected})\b", caption), caption


def test_no_two_scenes_of_a_set_are_equal_and_the_seed_decides() -> None:
    scenes = list(different_scenes(3000, Random(0)))
    assert len(set(scenes)) == 3000
    assert scenes == list(different_scenes(3000, Random(0)))
    assert scenes != list(different_scenes(3000, Random(1)))
    assert all(scene.shape != scene.other_shape and scene.colour != scene.other_colour for scene in scenes)


@pytest.mark.parametrize("number", [-1, SCENES_MAX + 1])
def test_more_scenes_than_there_are_cannot_be_had(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        list(different_scenes(number, Random(0)))


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
