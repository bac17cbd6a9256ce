"""The rules on what the stream lacks, and how late it comes."""

from support.findings import Judge, states, watched

from tensorboard_sidecar.logger_service.findings.rules.telemetry import GAPS, LAG, REFUSALS, RULES
from tensorboard_sidecar.logger_service.findings.samples import Ended, Missing
from tensorboard_sidecar.telemetry.outbox.state import Refusals


def test_missing_records_are_a_finding_a_reason_and_are_counted() -> None:
    judge = Judge(GAPS)
    reasons = ["missing from the recording", "the process was killed", "missing from the recording"]
    found = [one for step, reason in enumerate(reasons) for one in judge.feed(Missing(step, 3, reason))]
    assert [(one.tag, one.evidence, one.severity) for one in found] == [
        ("missing from the recording", {"records": 3.0}, "warn"),
        ("the process was killed", {"records": 3.0}, "warn"),
    ]
    again = judge.episodes["missing from the recording"].finding
    assert again is not None
    assert (again.count, again.last_step, again.state) == (2, 2, "open")


def test_refused_records_are_told_from_lost_ones() -> None:
    reason = Refusals(1, 1, {"images": 1}).gap().reason
    assert [len(Judge(rule).feed(Missing(1, 1, reason))) for rule in (GAPS, REFUSALS)] == [0, 1]
    assert [len(Judge(rule).feed(Missing(1, 1, "lost"))) for rule in (GAPS, REFUSALS)] == [1, 0]


def test_a_stream_that_ends_without_a_gap_was_checked() -> None:
    watch, found = watched({"loss": [1.0]})
    assert found == []
    assert {rule.name for rule in RULES} & {one.rule for one in watch.not_checked()} == {"telemetry-lag"}
    assert all(list(rule.measure(watch.facts)(Ended(1))) for rule in (GAPS, REFUSALS))


def test_a_lag_of_half_a_minute_opens_and_clears() -> None:
    found = Judge(LAG).curve([0.1, 40.0, 0.1, 40.0, 80.0, 20.0, 1.0], tag="telemetry/lag_seconds")
    assert states(found) == ["open", "cleared"]
    assert found[0].first_step == 4
