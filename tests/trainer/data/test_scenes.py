import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.scenes import (
    BACKGROUNDS,
    CAPTIONS_PER_SCENE,
    COLOURS,
    COUNTS,
    RELATIONS,
    SCENES_MAX,
    SHAPES,
    SIZES,
    Scene,
    captions_of,
    different_scenes,
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
