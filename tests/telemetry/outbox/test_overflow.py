from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.overflow import Refusals, capacity_limits


def test_what_is_large_and_can_be_missed_is_refused_first() -> None:
    limits = capacity_limits(1000)
    assert limits[Kind.MATRIX] == limits[Kind.IMAGES] == limits[Kind.AUDIO] == 700
    assert limits[Kind.EMBEDDING] == limits[Kind.TENSOR_SUMMARIES] == limits[Kind.TEXT] == 800
    assert limits[Kind.SCALARS] == 950
    assert limits[Kind.RUN_START] == limits[Kind.RUN_END] == limits[Kind.GAP] == 1000
    assert len(limits) == len(Kind)


def test_refusals_are_untold_until_a_gap_tells_them() -> None:
    refusals = Refusals()
    assert not refusals
    for kind in (Kind.MATRIX, Kind.TEXT, Kind.MATRIX):
        refusals = refusals.add(kind)
    assert refusals
    assert refusals.untold == 3
    assert refusals.gap() == refusals.gap() == Gap("the outbox was full", {"matrix": 2, "text": 1})
    refusals = refusals.told()
    assert not refusals
    assert (refusals.total, refusals.untold) == (3, 0)
    assert refusals.add(Kind.TEXT).gap().kinds == {"text": 1}
    assert refusals.add(Kind.TEXT).total == 4


def test_an_account_never_changes() -> None:
    """An interrupt finds the old one or the new one, and nothing in between."""
    refusals = Refusals().add(Kind.TEXT)
    refusals.add(Kind.TEXT)
    refusals.told()
    assert refusals == Refusals(1, 1, {"text": 1})


def test_the_largest_gap_fits_where_room_is_kept_for_it() -> None:
    refusals = Refusals(0, 0, {kind.name.lower(): 2**63 for kind in Kind})
    assert len(encode_body(refusals.gap())) < 1024
