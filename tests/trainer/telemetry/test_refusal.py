from protocol.codec import encode_body
from protocol.messages import Gap
from protocol.record import Kind
from trainer.telemetry.refusal import Refusals, capacity_limits


def test_what_is_large_and_can_be_missed_is_refused_first() -> None:
    limits = capacity_limits(1000)
    assert limits[Kind.MATRIX] == limits[Kind.IMAGES] == limits[Kind.AUDIO] == 700
    assert limits[Kind.EMBEDDING] == limits[Kind.TENSOR_SUMMARIES] == limits[Kind.TEXT] == 800
    assert limits[Kind.SCALARS] == 950
    assert limits[Kind.RUN_START] == limits[Kind.RUN_END] == limits[Kind.GAP] == 1000
    assert len(limits) == len(Kind)


def test_refusals_are_open_until_they_are_told() -> None:
    refusals = Refusals()
    assert not refusals
    for kind in (Kind.MATRIX, Kind.TEXT, Kind.MATRIX):
        refusals.add(kind)
    assert refusals
    assert refusals.gap() == refusals.gap() == Gap("the outbox was full", {"matrix": 2, "text": 1})
    refusals.told()
    assert not refusals
    refusals.add(Kind.TEXT)
    assert refusals.gap().kinds == {"text": 1}
    assert refusals.total == 4


def test_the_largest_gap_fits_where_room_is_kept_for_it() -> None:
    refusals = Refusals()
    for kind in Kind:
        refusals._open[kind.name.lower()] = 2**63
    assert len(encode_body(refusals.gap())) < 1024
