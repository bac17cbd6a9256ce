import pytest

from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.telemetry.values.scalars import CheckedTags


def test_tags_are_known_once_they_were_checked() -> None:
    tags = CheckedTags()
    tags.learn({"a": 1, "b/c": 2})
    assert tags.issuperset({"b/c": 0})
    assert not tags.issuperset({"d": 0})


@pytest.mark.parametrize("tag", ["", "  ", "a\nb", "x" * 513, 5, None, b"bytes"])
def test_what_is_no_tag_is_not_learned(tag: object) -> None:
    tags = CheckedTags()
    with pytest.raises((Malformed, TooLarge, TypeError, AttributeError)):
        tags.learn(["good", tag])  # type: ignore[list-item]
    assert not tags


def test_known_tags_are_never_too_many_for_a_record() -> None:
    """Otherwise tags learned separately could exceed the limit together in a record."""
    tags = CheckedTags()
    for first in range(0, 3 * TAGS_MAX, 1000):
        tags.learn(f"tag/{number}" for number in range(first, first + 1000))
        assert len(tags) <= TAGS_MAX
    with pytest.raises(TooLarge):
        tags.learn(f"tag/{number}" for number in range(TAGS_MAX + 1))
