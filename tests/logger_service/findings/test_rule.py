"""Opening, counting and clearing: the same for all rules."""

from dataclasses import replace

from tensorboard_sidecar.logger_service.findings.rule import Episode, Measured
from tensorboard_sidecar.logger_service.findings.rules.curves import LOSS_SPIKE

RULE = replace(LOSS_SPIKE, enter=2.0, clear=1.2, running=2, clear_running=2)


def feed(episode: Episode, *values: float) -> list[str]:
    """Return the state after each measure that opens or clears."""
    found = [episode.add(Measured("loss", step, value, {"value": value})) for step, value in enumerate(values)]
    return [one.state for one in found if one is not None]


def test_a_finding_opens_after_enough_bad_measures_in_a_row() -> None:
    assert feed(Episode(RULE, "loss"), 3, 1, 3, 1) == []
    episode = Episode(RULE, "loss")
    assert feed(episode, 3, 4) == ["open"]
    assert episode.finding is not None
    assert (episode.finding.first_step, episode.finding.last_step, episode.finding.count) == (0, 1, 2)
    assert (episode.finding.peak, episode.finding.evidence) == (4.0, {"value": 4.0})


def test_a_finding_clears_after_enough_good_measures_in_a_row_and_not_between_the_thresholds() -> None:
    episode = Episode(RULE, "loss")
    assert feed(episode, 3, 3, 1.5, 1.0, 1.5, 1.0, 1.0) == ["open", "cleared"]


def test_a_finding_that_opens_again_keeps_its_first_step_and_goes_on_counting() -> None:
    episode = Episode(RULE, "loss")
    assert feed(episode, 3, 3, 1, 1, 5, 5) == ["open", "cleared", "open"]
    assert episode.finding is not None
    assert (episode.finding.first_step, episode.finding.last_step, episode.finding.count) == (0, 5, 4)
    assert episode.finding.peak == 5.0


def test_a_rule_that_enters_below_its_clear_threshold_turns_the_comparisons() -> None:
    low = replace(RULE, enter=0.1, clear=0.5)
    episode = Episode(low, "loss")
    assert feed(episode, 0.05, 0.01, 0.3, 0.6, 0.7) == ["open", "cleared"]
    assert episode.finding is not None
    assert episode.finding.peak == 0.01


def test_nan_is_neither_bad_nor_good() -> None:
    episode = Episode(RULE, "loss")
    assert feed(episode, 3, float("nan"), 3, 3, float("nan"), 1, float("nan"), 1) == ["open"]
