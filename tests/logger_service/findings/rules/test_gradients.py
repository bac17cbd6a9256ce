"""The rules on the norm of the gradient."""

from support.findings import Judge, noisy, states, watched

from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.rules.gradients import CLIPPING, NORM_LARGE, NORM_SPIKE


def with_spikes(*places: int, count: int = 2_000, height: float = 40.0) -> list[float]:
    norms = noisy(count)
    for place in places:
        norms[place] *= height
    return norms


def test_three_spikes_among_a_hundred_points_open_and_clear_when_they_are_past() -> None:
    opened, cleared = Judge(NORM_SPIKE).curve(with_spikes(1_000, 1_040, 1_080), tag="grad_norm")
    assert opened.first_step == 1_081
    assert opened.evidence["value"] > 10
    assert cleared.state == "cleared"


def test_single_spikes_far_from_each_other_are_no_finding() -> None:
    assert Judge(NORM_SPIKE).curve(with_spikes(500, 550, 700, 760, 900, 1_200), tag="grad_norm") == []


def test_the_noise_of_gradients_is_no_finding() -> None:
    for seed in range(5):
        assert Judge(NORM_SPIKE).curve(noisy(4_000, seed=seed, spread=0.8), tag="grad_norm") == []


def test_a_norm_above_100_opens_and_clears() -> None:
    found = Judge(NORM_LARGE).curve([1.0] * 300 + [200.0] * 20 + [1.0] * 10, tag="grad_norm")
    assert states(found) == ["open", "cleared"]
    assert (found[0].first_step, found[0].last_step) == (301, 310)


def test_the_norm_of_a_summed_loss_is_measured_in_units_of_the_loss() -> None:
    judge = Judge(NORM_LARGE)
    judge.facts.note("train_loss", 1, 500.0)
    assert judge.curve([2_000.0] * 300, tag="grad_norm") == []


def test_clipping_of_most_updates_is_told_by_the_limit_in_the_settings() -> None:
    found = Judge(CLIPPING, Facts({"trainer/max_grad_norm": 1.0})).curve([1.5] * 200, tag="grad_norm")
    assert [(one.severity, one.state, one.evidence["share"]) for one in found] == [("info", "open", 1.0)]
    assert Judge(CLIPPING, Facts({"clip_norm": 1.0})).curve([0.5, 1.0, 1.0, 1.5] * 100, tag="grad_norm") == []


def test_clipping_is_told_by_both_norms() -> None:
    before = [2.0, 2.0, 0.5] * 100
    _, found = watched({"loss": [1.0] * 300, "grad_norm": before, "grad_norm_clipped": [min(n, 1.0) for n in before]})
    assert [(one.rule, one.tag) for one in found] == [("clipping", "")]
    _, found = watched({"loss": [1.0] * 300, "grad_norm": before, "grad_norm_clipped": before})
    assert found == []


def test_clipping_that_cannot_be_known_is_not_checked() -> None:
    watch, _ = watched({"grad_norm": [2.0] * 300})
    assert "clipping" in [one.rule for one in watch.not_checked()]
    judge = Judge(CLIPPING)
    judge.curve([2.0] * 5_000, tag="grad_norm")
    assert judge.episodes == {}


def test_clipping_clears_when_norms_become_small() -> None:
    judge = Judge(CLIPPING, Facts({"clip_norm": 1.0}))
    assert states(judge.curve([2.0] * 200 + [0.5] * 200, tag="grad_norm")) == ["open", "cleared"]
