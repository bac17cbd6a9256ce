from itertools import permutations

import pytest

from tensorboard_sidecar.logger_service.events.attempt_order import Attempt, in_order


@pytest.mark.parametrize(
    "attempts",
    [
        [(0, 0), (10, 1), (20, 2)],
        [(0, 0), (10, 1), (20, 0), (30, 1)],
        [(0, 0), (10, 0), (20, 0)],
        [(600, 0), (300, 1), (310, 2)],
        [(0, 0), (86_400, 1), (-86_400, 2)],
        [(0, 0), (0, 0), (0, 1)],
        [(5, 1), (3, 2)],
        [(0, 1), (10, 0)],
        [(0, 1), (10, 2), (20, 0), (30, 1)],
        [],
    ],
    ids=[
        "a run that is resumed twice",
        "a fresh start under the name of a resumed run",
        "fresh starts alone",
        "a first attempt whose clock was ahead",
        "clocks that are wrong by a day",
        "all at once",
        "no first attempt, and a clock that went back",
        "a fresh start behind a resumed run that began elsewhere",
        "the same with more of them",
        "none",
    ],
)
def test_attempts_follow_each_other(attempts: list[tuple[float, int]]) -> None:
    """In whatever order they are found; the logger saw them one after the other."""
    ordered = [Attempt(start, number, f"{place:08x}", place) for place, (start, number) in enumerate(attempts)]
    for found in permutations(ordered):
        assert in_order(found) == ordered


def test_what_is_shipped_late_has_its_place_all_the_same() -> None:
    """Whatever the logger saw first."""
    first, second = Attempt(0, 0, "a", 2), Attempt(10, 1, "b", 1)
    assert in_order([second, first]) == [first, second]


def test_where_nothing_tells_more_clocks_decide() -> None:
    """Recordings that trainers wrote themselves: nobody saw them all."""
    resumed, fresh = Attempt(0, 1, "a", 0), Attempt(10, 0, "b", 10)
    assert in_order([fresh, resumed]) == [resumed, fresh]
