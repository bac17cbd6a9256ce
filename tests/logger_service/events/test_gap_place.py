from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.events.gap_place import GapPlace, missing, with_gaps
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.record import Kind, Record

START_NS = 1_700_000_000_000_000_000


def gap(step: int, wall_time_ns: int = 0) -> Record:
    return Record(Kind.GAP, 1, step, wall_time_ns, b"")


def scalars(step: int, wall_time_ns: int = 0, sequence: int = 1) -> Record:
    return Record(Kind.SCALARS, sequence, step, wall_time_ns, b"")


def placed(*records: Record) -> list[Record]:
    place = GapPlace(START_NS)
    return [place.place(record) for record in records]


def steps(*records: Record) -> list[int]:
    return [record.step for record in placed(*records) if record.kind == Kind.GAP]


def test_a_gap_without_a_step_is_shown_at_the_highest_step_before() -> None:
    assert steps(scalars(10), scalars(7), gap(0)) == [10]


def test_a_gap_that_knows_its_step_is_shown_there() -> None:
    assert steps(scalars(10), gap(12)) == [12]


def test_no_gap_of_a_stream_hides_one_before() -> None:
    """TensorBoard's fast loader drops every point at or after the step of the next point."""
    assert steps(gap(0), scalars(10), gap(11), gap(0), gap(11), scalars(20), gap(0)) == [0, 11, 12, 13, 20]


def test_a_gap_without_a_time_has_that_of_the_record_before() -> None:
    first, _, told, untold = placed(gap(0), scalars(1, START_NS + 5), gap(2, START_NS + 9), gap(3))
    assert [record.wall_time_ns - START_NS for record in (first, told, untold)] == [0, 9, 9]


def test_other_records_stay_as_they_are() -> None:
    records = [scalars(5, START_NS), scalars(0), scalars(-1), scalars(2**62)]
    assert placed(*records) == records


@given(st.lists(st.tuples(st.booleans(), st.integers(-(2**63), 2**63 - 1)), max_size=20))
def test_any_steps_give_gaps_that_go_up_and_are_legal(said: list[tuple[bool, int]]) -> None:
    found = steps(*(gap(step) if is_gap else scalars(step) for is_gap, step in said))
    assert found == sorted(found)
    assert all(0 <= step <= STEP_MAX for step in found)


def test_numbers_that_are_missing_are_a_gap_at_the_record_behind() -> None:
    first, second = scalars(4, START_NS, sequence=3), scalars(5, START_NS, sequence=4)
    assert list(with_gaps([first, second], 1)) == [missing(1, first), first, second]
    assert missing(1, first)[:4] == (Kind.GAP, 1, 4, START_NS)
    assert missing(1, first).span == 2
