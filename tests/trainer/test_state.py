import math
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tensorboard_sidecar.trainer.data.vocabulary import Vocabulary
from tensorboard_sidecar.trainer.distributed import Placement
from tensorboard_sidecar.trainer.settings import Config, ConfigError
from tensorboard_sidecar.trainer.state import (
    CheckpointError,
    GradientNorms,
    TrainingState,
    deterministic,
    load_checkpoint,
    random_state,
    restore_random_state,
    restore_vocabulary,
    save_checkpoint,
    seed_everything,
    warmup_cosine,
)

VOCABULARY = Vocabulary(("dog", "cat"))


@pytest.fixture
def state(tiny_runs: Any) -> TrainingState:
    torch.manual_seed(0)
    return TrainingState.create(tiny_runs.config(lr=0.1, warmup_steps=2), len(VOCABULARY), 10, torch.device("cpu"))


def take_step(state: TrainingState, clip_norm: float = 1.0) -> GradientNorms:
    latents = state.model(*state.model.example_inputs(32))
    return state.update(torch.stack(list(latents)).square().mean(), clip_norm, Placement())


@pytest.mark.parametrize("clip_norm", [1e-4, 100.0])
def test_a_step_clips_gradients_and_tells_their_norm_before_and_after(state: TrainingState, clip_norm: float) -> None:
    told = take_step(state, clip_norm)
    after = torch.stack([p.grad.norm() for p in state.model.parameters() if p.grad is not None]).norm()
    assert 1e-3 < told.before_clipping.item() < 100.0
    assert told.after_clipping.item() == pytest.approx(after.item(), rel=1e-4)
    assert after.item() == pytest.approx(min(clip_norm, told.before_clipping.item()), rel=0.02)
    assert state.global_step == 1


def test_the_learning_rate_follows_the_schedule(state: TrainingState) -> None:
    seen = []
    for _ in range(3):
        seen.append(state.scheduler.get_last_lr()[0])
        take_step(state)
    assert seen == pytest.approx([0.05, 0.1, 0.1])


def test_vectors_are_not_decayed(state: TrainingState) -> None:
    for group in state.optimizer.param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] > 0}
    assert sum(len(group["params"]) for group in state.optimizer.param_groups) == len(list(state.model.parameters()))


@pytest.mark.parametrize(("loss", "best"), [(1.0, True), (math.nan, False), (math.inf, False)])
def test_only_a_lower_loss_is_the_best(state: TrainingState, loss: float, best: bool) -> None:
    assert state.record_validation_loss(loss) is best
    assert state.record_validation_loss(loss) is False
    assert state.best_validation_loss == (loss if best else math.inf)


def test_from_a_saved_snapshot_the_next_step_is_the_same(state: TrainingState, tiny_runs: Any, tmp_path: Path) -> None:
    config = tiny_runs.config(lr=0.1, warmup_steps=2)
    take_step(state)
    save_checkpoint(tmp_path, state.snapshot(config, VOCABULARY))
    take_step(state)
    other = TrainingState.create(config, len(VOCABULARY), 10, torch.device("cpu"))
    checkpoint = load_checkpoint(tmp_path)
    other.restore(checkpoint)
    take_step(other)
    assert (other.global_step, other.attempt) == (2, 1)
    expected = state.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in other.model.state_dict().items())
    assert restore_vocabulary(checkpoint) == VOCABULARY


def resumed(state: TrainingState, tiny_runs: Any, total_steps: int = 10, **changes: Any) -> TrainingState:
    """Return the state restored from a snapshot of ``state`` with other settings."""
    config = tiny_runs.config(lr=0.1, warmup_steps=2)
    snapshot = state.snapshot(config, VOCABULARY)
    other = TrainingState.create(replace(config, **changes), len(VOCABULARY), total_steps, torch.device("cpu"))
    other.restore(snapshot)
    return other


def test_rate_and_decay_of_a_resumed_run_are_those_of_its_settings(state: TrainingState, tiny_runs: Any) -> None:
    """The checkpoint has its own, which once won, while the settings that were recorded said otherwise."""
    for _ in range(2):
        take_step(state)
    other = resumed(state, tiny_runs, lr=0.02, weight_decay=0.3)
    assert [group["weight_decay"] for group in other.optimizer.param_groups] == [0.3, 0.0]
    assert other.scheduler.get_last_lr() == [group["lr"] for group in other.optimizer.param_groups] == [0.02, 0.02]
    take_step(other)
    assert other.scheduler.get_last_lr()[0] == pytest.approx(0.02 * warmup_cosine(3, warmup_steps=2, total_steps=10))


@pytest.mark.parametrize("total_steps", [3, 10, 40])
def test_the_schedule_of_a_resumed_run_is_that_of_its_steps(
    state: TrainingState, tiny_runs: Any, total_steps: int
) -> None:
    for _ in range(2):
        take_step(state)
    other = resumed(state, tiny_runs, total_steps)
    for step in range(2, total_steps + 1):
        wanted = 0.1 * warmup_cosine(step, warmup_steps=2, total_steps=total_steps)
        assert other.scheduler.get_last_lr()[0] == pytest.approx(wanted)
        other.optimizer.step()
        other.scheduler.step()


def test_a_run_goes_on_in_a_precision_that_scales_its_loss(state: TrainingState, tiny_runs: Any) -> None:
    """A run of full precision has no scale to go on with."""
    take_step(state)
    other = resumed(state, tiny_runs, precision="fp16")
    assert other.scaler.get_scale() == 65536.0
    take_step(other)
    assert other.global_step == 2
    again = resumed(other, tiny_runs, precision="fp16")
    assert again.scaler.state_dict() == other.scaler.state_dict()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_batch_without_a_loss_is_a_step_without_a_gradient(tiny_runs: Any, precision: str) -> None:
    config = tiny_runs.config(precision=precision)
    state = TrainingState.create(config, len(VOCABULARY), 10, torch.device("cpu"))
    norms = state.update(None, 1.0, Placement())
    assert [norm.item() for norm in norms] == [0.0, 0.0]
    assert (state.global_step, state.scheduler.last_epoch) == (1, 1)
    take_step(state)
    assert state.global_step == 2


def test_a_checksum_tells_models_apart(state: TrainingState, tiny_runs: Any) -> None:
    torch.manual_seed(0)
    same = TrainingState.create(tiny_runs.config(), len(VOCABULARY), 10, torch.device("cpu"))
    assert same.checksum() == state.checksum()
    with torch.no_grad():
        same.model.log_scale.add_(1e-6)
    assert same.checksum() != state.checksum()


@pytest.mark.parametrize("part", ["model", "optimizer", "scheduler", "random"])
def test_a_part_that_does_not_fit_is_one_clear_error(state: TrainingState, tiny_runs: Any, part: str) -> None:
    snapshot = state.snapshot(tiny_runs.config(), VOCABULARY)
    getattr(snapshot, part).clear() if part != "scheduler" else vars(snapshot).update(scheduler=None)
    with pytest.raises(CheckpointError, match="does not fit this model: "):
        state.restore(snapshot)


def test_a_vocabulary_that_is_none_is_one_clear_error(state: TrainingState, tiny_runs: Any) -> None:
    snapshot = state.snapshot(tiny_runs.config(), VOCABULARY)
    snapshot.vocabulary.append("dog")
    with pytest.raises(CheckpointError, match="is broken"):
        restore_vocabulary(snapshot)
    assert restore_vocabulary(None) is None


def test_pretrained_weights_that_cannot_be_fetched_are_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No network: the address of the weights leads to a port nobody listens on."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="pretrained weights of resnet18 cannot be fetched"):
        TrainingState.create(Config(pretrained=True), len(VOCABULARY), 10, torch.device("cpu"))


def factors(warmup_steps: int, total_steps: int) -> list[float]:
    return [warmup_cosine(step, warmup_steps=warmup_steps, total_steps=total_steps) for step in range(total_steps + 1)]


def test_rises_in_a_line_to_one_and_falls_to_zero() -> None:
    found = factors(4, 20)
    assert found[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert found[12] == pytest.approx(0.5)
    assert found[20] == pytest.approx(0.0)
    assert all(a > b for a, b in pairwise(found[4:]))


def test_a_short_run_warms_up_for_half_of_it() -> None:
    assert max(factors(1000, 10)) == 1.0


@pytest.mark.parametrize("total_steps", [0, 1, 2])
def test_shortest_runs_have_factors_in_range(total_steps: int) -> None:
    assert all(0 <= factor <= 1 for factor in factors(16, total_steps))


def test_stays_at_zero_beyond_the_end() -> None:
    assert warmup_cosine(99, warmup_steps=2, total_steps=10) == pytest.approx(0.0)


def draw() -> tuple[float, ...]:
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.normal()),  # noqa: NPY002 - the global generator is under test
        float(torch.rand(())),
    )


@pytest.fixture(autouse=True)
def _others_undisturbed() -> Iterator[None]:
    """Other tests draw from the same generators."""
    before = random_state()
    yield
    restore_random_state(before)


def test_equal_seeds_draw_equal_numbers() -> None:
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first


def test_a_restored_state_goes_on_where_it_was_kept(tmp_path: Path) -> None:
    """Through a file, as a checkpoint does, and with a gaussian in store."""
    seed_everything(1)
    draw()
    torch.save(random_state(), tmp_path / "state.pt")
    following = draw()
    draw()
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == following


def test_determinism_holds_on_the_cpu_and_ends_with_the_block() -> None:
    with deterministic(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(torch.device("cuda")):
        assert not torch.are_deterministic_algorithms_enabled()
