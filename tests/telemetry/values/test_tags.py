"""Tags that people give: each becomes a tag that TensorBoard shows, and different tags stay different."""

from enum import Enum, IntEnum, StrEnum
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS, TAGS_MAX
from tensorboard_sidecar.protocol.names import check_tag
from tensorboard_sidecar.telemetry.values.tags import distinct_tag, shown_tag


class Colour(Enum):
    RED = "r"


class Level(IntEnum):
    LOW = 1


class Kind(StrEnum):
    LOSS = "loss"


SHOWN: list[tuple[Any, str]] = [
    ("a cat\nphoto", "a cat\N{SYMBOL FOR LINE FEED}photo"),
    ("\x00\t\x1b", "\u2400\u2409\u241b"),
    ("a\x7fb", "a\N{SYMBOL FOR DELETE}b"),
    ("a\x85\x9f", "a\\x85\\x9f"),
    ("\u202ea\u2066", "\\u202ea\\u2066"),
    ("", "untitled"),
    (" ", "untitled"),
    ("\u3000", "untitled"),
    (5, "5"),
    (True, "True"),
    (np.int64(7), "7"),
    (np.str_("a"), "a"),
    (Colour.RED, "Colour.RED"),
    (Level.LOW, "1"),
    (Kind.LOSS, "loss"),
]


@pytest.mark.parametrize(("tag", "shown"), SHOWN, ids=repr)
def test_a_tag_that_cannot_be_shown_becomes_one_that_can(tag: Any, shown: str) -> None:
    assert check_tag(shown_tag(tag)) == shown


@pytest.mark.parametrize("tag", ["loss", "a" * 512, "a\u200db", "loss/train \N{FOX FACE}", "untitled"])
def test_a_tag_that_can_be_shown_is_the_same_object(tag: str) -> None:
    assert shown_tag(tag) is tag


@pytest.mark.parametrize("tag", [None, 5.0, b"loss", ("a",), object(), Colour])
def test_an_object_that_is_no_text_is_no_tag(tag: object) -> None:
    with pytest.raises(Malformed, match=r"a tag is a .*; expected text"):
        shown_tag(tag)


@pytest.mark.parametrize(
    ("one", "other"), [("very detailed " * 45, "very detailed " * 46), ("\n" * 600, "\n" * 601), ("a\ud800", "a\ud801")]
)
def test_tags_that_differ_beyond_what_is_shown_stay_different(one: str, other: str) -> None:
    first, second = shown_tag(one), shown_tag(other)
    assert first != second
    assert first.rpartition("\N{HORIZONTAL ELLIPSIS}")[0] == second.rpartition("\N{HORIZONTAL ELLIPSIS}")[0]
    assert max(len(first), len(second)) <= TAG_MAX_CHARACTERS


@given(st.text(st.characters(), max_size=20) | st.text(st.characters(), min_size=500, max_size=700) | st.integers())
def test_whatever_a_user_calls_it_is_a_tag_that_the_logger_takes(tag: Any) -> None:
    shown = shown_tag(tag)
    assert check_tag(shown) == shown
    shown.encode()


def test_a_tag_that_is_taken_gets_a_number() -> None:
    assert [distinct_tag("a", taken) for taken in ({}, {"a"}, {"a", "a (2)"})] == ["a", "a (2)", "a (3)"]
    assert len(check_tag(distinct_tag("x" * 512, {"x" * 512}))) <= TAG_MAX_CHARACTERS


def test_many_tags_that_are_taken_do_not_take_long() -> None:
    taken: set[str] = set()
    began = perf_counter()
    for _ in range(TAGS_MAX):
        taken.add(distinct_tag("untitled", taken))
    assert len(taken) == TAGS_MAX
    assert perf_counter() - began < 5
