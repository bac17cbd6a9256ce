"""The rules on the tensors of a model."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.rules import layers
from tensorboard_sidecar.logger_service.findings.rules.layers import (
    EXPLODING_LAYER,
    FROZEN_LAYERS,
    FROZEN_PARAMETER,
    NO_UPDATE,
    VANISHING_LAYER,
    ZERO_GRADIENT,
)
from tensorboard_sidecar.logger_service.findings.samples import Layer
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.finding import Finding

NAMES = [f"encoder.{number}.weight" for number in range(8)]


def layer(rms: float = 1.0, *, values: int = 4096, zeros: int = 0, fingerprint: int = 0) -> Layer:
    return Layer(values, zeros, rms, -rms, rms, fingerprint)


ZERO = layer(0.0, zeros=4096)


def run(*rules: Rule, lr: float | None = 1e-3) -> Watch:
    """Return a watch of a run of 1,000 steps."""
    watch = Watch(rules or layers.RULES)
    watch.start(0, {"total_steps": 1_000} if lr is None else {"total_steps": 1_000, "lr": lr})
    return watch


def summaries(watch: Watch, step: int, **kinds: Mapping[str, Layer]) -> list[Finding]:
    """Show summaries by kind and name."""
    found = [
        one
        for kind, of_names in kinds.items()
        for name, summary in of_names.items()
        for one in watch.layer(step, f"{kind}/{name}", summary, 0)
    ]
    return found + watch.flush()


def gradients(changed: Mapping[str, Layer] | None = None, scale: float = 1.0) -> dict[str, Layer]:
    """Return gradients of a healthy model, which differ by a factor of 100, with changes."""
    sizes = np.geomspace(0.1, 10, len(NAMES))
    return {name: layer(scale * size) for name, size in zip(NAMES, sizes, strict=True)} | dict(changed or {})


def weights(step: int, frozen: int = 0) -> dict[str, Layer]:
    """Return weights at a step; the first ``frozen`` ones are the same at each step."""
    return {name: layer(fingerprint=0 if number < frozen else step) for number, name in enumerate(NAMES)}


def told(found: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.rule, one.tag, one.state) for one in found]


def test_a_healthy_model_is_no_finding() -> None:
    watch = run()
    for step in range(100, 1_000, 100):
        assert summaries(watch, step, weights=weights(step), gradients=gradients()) == []
    assert watch.not_checked() == []


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize(("rule", "rms"), [(VANISHING_LAYER, 1e-4), (EXPLODING_LAYER, 1e3)], ids=["small", "large"])
def test_a_layer_far_from_the_median_is_told_at_the_third_summary(rule: Rule, rms: float, scale: float) -> None:
    watch, found = run(rule), list[Finding]()
    for step in (100, 200, 300, 400):
        found += summaries(watch, step, gradients=gradients({NAMES[3]: layer(scale * rms)}, scale))
    assert [(one.rule, one.tag, one.first_step, one.last_step) for one in found] == [
        (rule.name, f"gradients/{NAMES[3]}", 100, 300)
    ]
    assert told(summaries(watch, 500, gradients=gradients())) == [(rule.name, f"gradients/{NAMES[3]}", "cleared")]


def test_biases_small_tensors_and_unused_rows_do_not_cry() -> None:
    watch = run()
    healthy_oddities = {
        "encoder.0.bias": layer(1e-9),
        "head.bias": layer(1e3),
        "gamma.weight": layer(1e4, values=63),
        "bn.bias": ZERO,
        # A table of a million values, of which a batch uses a hundred: their RMS is 1.
        "table.weight": layer(0.01, values=1_000_000, zeros=999_900),
    }
    for step in range(100, 1_000, 100):
        assert summaries(watch, step, gradients=gradients(healthy_oddities)) == []


def test_the_size_of_weights_is_not_judged() -> None:
    watch = run()
    for step in range(100, 1_000, 100):
        odd = {"gamma.weight": layer(1e-6, fingerprint=step), "zero.weight": layer(1e5, fingerprint=step)}
        assert summaries(watch, step, weights=weights(step) | odd) == []
    not_checked = [one.rule for one in watch.not_checked()]
    assert not_checked == ["vanishing-layer", "exploding-layer", "zero-gradient", "frozen-parameter"]


def test_fewer_than_four_layers_have_no_median() -> None:
    watch = run(VANISHING_LAYER)
    for step in range(100, 1_000, 100):
        assert summaries(watch, step, gradients={NAMES[0]: layer(), NAMES[1]: layer(1e-9), NAMES[2]: ZERO}) == []
    assert [one.rule for one in watch.not_checked()] == ["vanishing-layer"]


def test_neighbouring_zero_gradients_are_one_finding() -> None:
    watch, zeros = run(ZERO_GRADIENT), dict.fromkeys(NAMES[:3], ZERO)
    assert summaries(watch, 100, gradients=gradients(zeros)) == []
    (found,) = summaries(watch, 200, gradients=gradients(zeros))
    assert (found.rule, found.tag, found.evidence) == (
        "zero-gradient",
        f"gradients/{NAMES[0]}",
        {"tensors": 3, "of": 8},
    )
    assert told(summaries(watch, 300, gradients=gradients())) == [("zero-gradient", f"gradients/{NAMES[0]}", "cleared")]


def test_blocks_apart_are_findings_each_and_a_step_without_gradient_is_none() -> None:
    watch, zeros = run(ZERO_GRADIENT), {NAMES[1]: ZERO, NAMES[5]: ZERO, NAMES[6]: ZERO}
    assert summaries(watch, 100, gradients=gradients(zeros)) == []
    assert summaries(watch, 200, gradients=gradients()) == []
    assert summaries(watch, 300, gradients=gradients(zeros)) == []
    found = summaries(watch, 400, gradients=gradients(zeros))
    assert [(one.tag, one.evidence["tensors"]) for one in found] == [
        (f"gradients/{NAMES[1]}", 1),
        (f"gradients/{NAMES[5]}", 2),
    ]


def test_a_parameter_with_a_gradient_that_does_not_change_is_told_at_the_third_summary() -> None:
    watch, found = run(FROZEN_PARAMETER, FROZEN_LAYERS), list[Finding]()
    for step in (100, 200, 300, 400):
        found += summaries(watch, step, weights=weights(step, frozen=3), gradients=gradients())
    assert [(one.rule, one.tag, one.first_step, one.last_step) for one in found] == [
        ("frozen-parameter", f"weights/{NAMES[0]}", 200, 300)
    ]
    cleared = summaries(watch, 500, weights=weights(500), gradients=gradients())
    assert told(cleared) == [("frozen-parameter", f"weights/{NAMES[0]}", "cleared")]


@pytest.mark.parametrize("known", ["no summaries", "zero", "others only"])
def test_a_parameter_without_a_gradient_is_information_alone(known: str) -> None:
    watch, found = run(FROZEN_PARAMETER, FROZEN_LAYERS), list[Finding]()
    some = gradients(dict.fromkeys(NAMES[:3], ZERO))
    shown = {"no summaries": {}, "zero": some, "others only": {name: some[name] for name in NAMES[3:]}}[known]
    for step in (100, 200, 300, 400):
        found += summaries(watch, step, weights=weights(step, frozen=3), gradients=shown)
    assert [(one.rule, one.severity, one.evidence) for one in found] == [
        ("frozen-layers", "info", {"tensors": 3, "of": 8})
    ]


@pytest.mark.parametrize("lr", [0.0, None])
def test_without_a_learning_rate_above_zero_nothing_is_frozen(lr: float | None) -> None:
    watch = run(FROZEN_PARAMETER, FROZEN_LAYERS, NO_UPDATE, lr=lr)
    for step in range(100, 1_000, 100):
        assert summaries(watch, step, weights=weights(step, frozen=8), gradients=gradients()) == []
    assert len(watch.not_checked()) == 3


def test_a_logged_learning_rate_goes_before_the_setting() -> None:
    watch = run(NO_UPDATE)
    for step in range(100, 1_000, 100):
        assert watch.scalars(step, step * 10**10, {"lr": 0.0}) == []
        assert summaries(watch, step, weights=weights(step, frozen=8)) == []


def test_a_model_that_never_changes_is_told_once() -> None:
    watch, found = run(), list[Finding]()
    for step in (100, 150, 200, 250):
        found += summaries(watch, step, weights=weights(step, frozen=8), gradients=gradients())
    assert [(one.rule, one.tag, one.last_step, one.evidence["steps"]) for one in found] == [("no-update", "", 200, 100)]
    assert told(summaries(watch, 300, weights=weights(300), gradients=gradients())) == [("no-update", "", "cleared")]


def test_accumulated_gradients_are_no_finding() -> None:
    """Weights that change every 32 steps, and summaries at each step."""
    watch = run()
    for step in range(100, 300):
        assert summaries(watch, step, weights=weights(step // 32), gradients=gradients()) == []


def test_weights_without_a_finite_value_are_not_frozen() -> None:
    watch = run(FROZEN_PARAMETER, FROZEN_LAYERS)
    for step in range(100, 1_000, 100):
        lost = {NAMES[0]: layer(0.0)}
        assert summaries(watch, step, weights=weights(step) | lost, gradients=gradients()) == []


def test_a_parameter_has_the_same_name_in_weights_and_gradients_of_all_loops() -> None:
    for pair in (
        ("weights/encoder/0/weight", "gradients/encoder/0/weight"),
        ("encoder.0.weight", "encoder.0.weight.grad"),
        ("params/encoder.0.weight", "grads/encoder.0.weight"),
    ):
        assert {layers.parameter_of(tag) for tag in pair} == {"encoder.0.weight"}


@settings(deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(NAMES),
            st.builds(
                Layer,
                values=st.integers(0, 10**6),
                zeros=st.integers(0, 10),
                rms=st.floats(0, allow_infinity=True),
                minimum=st.floats(-1, 0),
                maximum=st.floats(0, 1),
                fingerprint=st.integers(0, 1),
            ),
        ),
        max_size=12,
    )
)
def test_no_rule_fails_on_any_summaries(some: list[dict[str, Layer]]) -> None:
    watch = run()
    for step, shown in enumerate(some, 100):
        summaries(watch, step, weights=shown, gradients=shown)
    assert [one.reason for one in watch.not_checked() if "failed" in one.reason] == []


def test_changing_names_keep_a_bounded_state() -> None:
    watch = run()
    for step in range(100, 200):
        summaries(watch, step, gradients={f"{step}.{n}.weight": ZERO if n % 2 else layer() for n in range(64)})
    measure = next(m for (name, _), m in watch._measures.items() if name == "zero-gradient")
    (blocks,) = [cell.cell_contents for cell in measure.__closure__]
    assert len(blocks._known) <= layers.BLOCKS_MAX
