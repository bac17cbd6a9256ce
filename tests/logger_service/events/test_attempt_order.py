from itertools import permutations

import pytest

from logger_service.events.attempt_order import Attempt, in_order


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
        [],
    ],
    ids=[
        "a run that is resumed twice",
        "a fresh start under the name of a resumed run",
        "fresh starts alone",
        "a first attempt whose clock was ahead",
        "clocks that are wrong by a day",
        "all at once",
        "no first attempt",
        "none",
    ],
)
def test_attempts_follow_each_other(attempts: list[tuple[float, int]]) -> None:
    """In whatever order they are found."""
    ordered = [Attempt(start, number, f"{place:08x}") for place, (start, number) in enumerate(attempts)]
    for found in permutations(ordered):
        assert in_order(found) == ordered
