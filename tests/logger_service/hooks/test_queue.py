"""What waits for a hook, and when it is called; with a clock that the test sets."""

from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.hooks.queue import HookLimits, Letter, LetterQueue, Waiting

LIMITS = HookLimits(calls_a_minute=3, queue_max=4, attempts_max=3, pause_seconds=2.0)


def letter(name: str, state: str = "open") -> Letter:
    return Letter((bytes(16), name, ""), f"{name} {state}", state.encode())


def take(queue: LetterQueue, now_seconds: float) -> Waiting:
    found = queue.take(now_seconds)
    assert found is not None
    return found


def test_letters_are_taken_in_order_the_newest_state_of_each() -> None:
    queue = LetterQueue(LIMITS)
    assert queue.due_in_seconds(0.0) == float("inf")
    for one in (letter("a"), letter("b"), letter("a", "cleared")):
        assert queue.add(one) is None
    assert [take(queue, 0.0).letter for _ in range(2)] == [letter("b"), letter("a", "cleared")]
    assert queue.take(0.0) is None
    assert queue.counts.dropped == 1


def test_too_many_letters_cost_the_oldest() -> None:
    queue = LetterQueue(LIMITS)
    dropped = [queue.add(letter(name)) for name in "abcdef"]
    assert dropped == [None] * 4 + [letter("a"), letter("b")]
    assert (len(queue), queue.counts.dropped) == (4, 2)


def test_a_minute_has_so_many_calls() -> None:
    queue = LetterQueue(LIMITS)
    for name in "abcd":
        queue.add(letter(name))
    assert [queue.take(now) is not None for now in (10.0, 20.0, 30.0, 30.0, 69.9)] == [True, True, True, False, False]
    assert 0 < queue.due_in_seconds(69.9) < 0.2
    assert take(queue, 70.0).letter == letter("d")


def test_a_failed_letter_is_tried_again_after_pauses_that_double_and_then_dropped() -> None:
    queue = LetterQueue(LIMITS)
    queue.add(letter("a"))
    assert queue.failed(take(queue, 0.0), 1.0, retry=True)
    assert queue.take(2.9) is None
    queue.add(letter("b"))
    assert take(queue, 2.9).letter == letter("b"), "another letter does not wait for it"
    second = take(queue, 3.0)
    assert second.letter == letter("a")
    assert queue.failed(second, 3.0, retry=True)
    assert queue.due_in_seconds(3.0) >= 4.0
    assert not queue.failed(take(queue, 100.0), 100.0, retry=True)
    assert (len(queue), queue.counts.failed, queue.counts.dropped) == (0, 3, 1)


def test_a_letter_that_can_never_succeed_is_dropped_at_once() -> None:
    queue = LetterQueue(LIMITS)
    queue.add(letter("a"))
    assert not queue.failed(take(queue, 0.0), 0.0, retry=False)
    assert queue.counts.dropped == 1


def test_a_newer_state_takes_the_place_of_a_failed_one() -> None:
    queue = LetterQueue(LIMITS)
    queue.add(letter("a"))
    failing = take(queue, 0.0)
    queue.add(letter("a", "cleared"))
    assert not queue.failed(failing, 0.0, retry=True)
    assert take(queue, 0.0).letter == letter("a", "cleared")


def test_at_the_end_everything_is_due_once() -> None:
    queue = LetterQueue(LIMITS)
    for name in "abcd":
        queue.add(letter(name))
    assert queue.failed(take(queue, 0.0), 0.0, retry=True)
    queue.closing = True
    taken = [take(queue, 0.1) for _ in range(4)]
    assert {one.letter for one in taken} == {letter(name) for name in "abcd"}
    assert not queue.failed(taken[0], 0.1, retry=True)
    assert queue.take(0.2) is None


events = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.booleans(), st.integers(0, 30)), max_size=60)


@given(events)
def test_whatever_happens_the_bounds_hold_and_every_letter_is_accounted_for(
    happenings: list[tuple[str, bool, bool, int]],
) -> None:
    queue, now_seconds, begun, added = LetterQueue(LIMITS), 0.0, list[float](), 0
    for name, is_added, fails, seconds in happenings:
        now_seconds += seconds
        if is_added:
            queue.add(letter(name))
            added += 1
        elif (waiting := queue.take(now_seconds)) is not None:
            begun.append(now_seconds)
            if fails:
                queue.failed(waiting, now_seconds, retry=True)
            else:
                queue.counts.delivered += 1
        assert len(queue) <= LIMITS.queue_max
        assert added == len(queue) + queue.counts.delivered + queue.counts.dropped
    for first, fourth in zip(begun, begun[LIMITS.calls_a_minute :], strict=False):
        assert fourth - first >= 60.0
