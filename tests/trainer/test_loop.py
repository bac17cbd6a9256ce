import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.records import expected

from tensorboard_sidecar import Finding, Telemetry
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Embedding,
    Graph,
    HParams,
    Images,
    Layout,
    Matrix,
    RunEnd,
    TensorSummaries,
    Text,
)
from tensorboard_sidecar.trainer import loop
from tensorboard_sidecar.trainer.data.loader import Order
from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.interrupt import Interrupted, StopSignals
from tensorboard_sidecar.trainer.model import Brain
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import Config
from tensorboard_sidecar.trainer.state import (
    BEST,
    LAST,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    warmup_cosine,
)


class StopAtStep(StopSignals):
    """A SIGTERM that comes just after a certain step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.steps_left = step

    def check(self) -> None:
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Interrupted(15)


def epoch_order(tiny_runs: Any, config: Config, epoch: int) -> Order:
    order = Order(tiny_runs.data.train, batch_size=config.batch_size, seed=config.seed, train=True)
    order.epoch = epoch
    return order


def test_a_run_says_every_tag_as_often_as_it_should(tiny_runs: Any) -> None:
    config = tiny_runs.config(epochs=3, histogram_interval=2, log_interval=2, batch_size=4)
    summary, recorded = tiny_runs.train(config)

    scalars = recorded.scalars()
    assert set(scalars) == {*expected.EACH_LOG_INTERVAL, *expected.EACH_EPOCH}
    assert all([step for step, _ in scalars[tag]] == [2, 4, 6, 8, 10, 12] for tag in expected.EACH_LOG_INTERVAL)
    assert all([step for step, _ in scalars[tag]] == [4, 8, 12] for tag in expected.EACH_EPOCH)
    assert all(math.isfinite(value) for points in scalars.values() for _, value in points)
    assert scalars["progress/epoch"] == [(4, 1.0), (8, 2.0), (12, 3.0)]

    assert [(step, m.tag) for step, m in recorded.of(Matrix)] == [
        (step, tag) for step in (4, 8, 12) for tag in expected.HEATMAPS
    ]
    assert {m.tag for _, m in recorded.of(Images)} == {"samples/images"}
    assert {m.tag for _, m in recorded.of(Text)} == {"samples/captions"}
    assert {m.tag for _, m in recorded.of(Audio)} == {"samples/audio"}
    assert [m.tag for _, m in recorded.of(Embedding)] == [*expected.PROJECTOR] * 3
    assert [step for step, _ in recorded.of(TensorSummaries)] == [4, 4, 8, 8, 12, 12]
    assert [step for step, _ in recorded.of(Graph)] == [0]
    assert [set(m.categories) for _, m in recorded.of(Layout)] == [set(expected.LAYOUT)]
    [(step, hparams)] = recorded.of(HParams)
    assert (step, hparams.parameters["batch_size"]) == (12, 4)
    assert set(hparams.metrics) == {"hparam/best_val_loss", "hparam/recall_at_1"}
    assert recorded.messages[-1] == (12, RunEnd("completed"))
    assert summary.global_step == 12
    assert summary.best_validation_loss == min(value for _, value in scalars["loss/val/total"])


def test_histograms_come_at_the_first_and_last_epoch_and_at_every_interval(tiny_runs: Any) -> None:
    _, recorded = tiny_runs.train(tiny_runs.config(epochs=5, histogram_interval=3, batch_size=16))
    assert [step for step, _ in recorded.of(TensorSummaries)] == [1, 1, 3, 3, 5, 5]


def test_every_trainable_parameter_has_a_histogram_of_weights_and_of_gradients(tiny_runs: Any) -> None:
    config = tiny_runs.config(epochs=1)
    _, recorded = tiny_runs.train(config)
    names = {name.replace(".", "/") for name, _ in Brain(10, embed_dim=16).named_parameters()}
    assert len(names) > 50
    (_, weights), (_, gradients) = recorded.of(TensorSummaries)
    assert set(weights.summaries) == {f"weights/{name}" for name in names}
    assert set(gradients.summaries) == {f"gradients/{name}" for name in names}
    assert "weights/image_encoder/backbone/conv1/weight" in weights.summaries
    assert all(summary.nans == 0 for summary in gradients.summaries.values())


def test_gradients_are_logged_as_they_were_clipped(tiny_runs: Any) -> None:
    _, recorded = tiny_runs.train(tiny_runs.config(epochs=1, batch_size=16, clip_norm=1e-3))
    _, gradients = (message for _, message in recorded.of(TensorSummaries))
    norm = math.sqrt(sum(summary.sum_squares for summary in gradients.summaries.values()))
    assert norm == pytest.approx(1e-3, rel=0.01)
    assert recorded.scalars()["optimization/grad_norm"][0][1] > 0.1


def test_a_resumed_run_repeats_an_uninterrupted_one_bit_for_bit(tiny_runs: Any) -> None:
    """Stopped in the middle of epoch 2 of 3: from the checkpoint of epoch 1 on, every number is the same."""
    whole = tiny_runs.config("whole", epochs=3)
    _, uninterrupted = tiny_runs.train(whole)

    config = tiny_runs.config("parts", epochs=3)
    with pytest.raises(Interrupted):
        tiny_runs.train(config, stop=StopAtStep(3))
    checkpoint = load_checkpoint(config.checkpoint_dir)
    assert (checkpoint.epoch, checkpoint.global_step, checkpoint.attempt) == (1, 2, 0)
    torch.rand(7)  # disturb the random state
    _, resumed = tiny_runs.train(config, checkpoint=checkpoint)

    wanted, found = uninterrupted.scalars(), resumed.scalars()
    compared = [tag for tag in wanted if not tag.startswith("telemetry/")]
    for tag in compared:
        assert found[tag] == [(step, value) for step, value in wanted[tag] if step > 2], tag
    ends = [load_checkpoint(each.checkpoint_dir) for each in (whole, config)]
    assert all(torch.equal(ends[0].model[name], ends[1].model[name]) for name in ends[0].model)
    assert [end.attempt for end in ends] == [0, 1]


@pytest.mark.parametrize(
    "changes", [{"epochs": 5}, {"epochs": 3, "batch_size": 4}, {"epochs": 3, "batch_size": 16}], ids=str
)
def test_a_run_resumed_with_other_steps_to_come_falls_to_zero_at_its_new_end(
    tiny_runs: Any, changes: dict[str, Any]
) -> None:
    """Finished steps count: the learning rate neither restarts at zero nor reaches zero before the last step."""
    config = tiny_runs.config(epochs=2, lr=0.01)
    tiny_runs.train(config)
    checkpoint = load_checkpoint(config.checkpoint_dir)
    steps = 16 // changes.get("batch_size", 8) * (changes["epochs"] - 2)
    _, resumed = tiny_runs.train(replace(config, **changes), checkpoint=checkpoint)
    found = resumed.scalars()["optimization/lr"]
    wanted = [0.01 * warmup_cosine(step, warmup_steps=2, total_steps=4 + steps) for step in range(4, 4 + steps)]
    assert found == [(5 + n, pytest.approx(rate)) for n, rate in enumerate(wanted)]
    assert min(wanted) > 0


def test_an_attempt_that_finishes_no_epoch_counts(tiny_runs: Any) -> None:
    config = tiny_runs.config(epochs=3)
    with pytest.raises(Interrupted):
        tiny_runs.train(config, stop=StopAtStep(3))
    with pytest.raises(Interrupted):
        tiny_runs.train(config, checkpoint=load_checkpoint(config.checkpoint_dir), stop=StopAtStep(1))
    assert load_checkpoint(config.checkpoint_dir).attempt == 1


def test_an_interrupted_run_ends_as_interrupted_after_a_whole_step(tiny_runs: Any, recorded: Any) -> None:
    config = tiny_runs.config(epochs=3)
    with pytest.raises(Interrupted):
        tiny_runs.train(config, stop=StopAtStep(1))
    said = recorded(tiny_runs.recording(config, 0))
    assert said.of(RunEnd) == [(1, RunEnd("interrupted"))]
    assert [step for step, _ in said.scalars()["loss/train/total"]] == [1]


def test_a_failing_run_ends_as_failed(tiny_runs: Any, recorded: Any) -> None:
    config = tiny_runs.config()
    config.checkpoint_dir.parent.mkdir()
    config.checkpoint_dir.write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="File exists"):
        tiny_runs.train(config)
    assert [end for _, end in recorded(tiny_runs.recording(config, 0)).of(RunEnd)] == [RunEnd("failed")]


class SickFolder:
    """Saves checkpoints but for those of certain epochs."""

    def __init__(self, *epochs: int) -> None:
        self.epochs = epochs

    def save(self, folder: Path, checkpoint: Checkpoint, *, best: bool = False) -> None:
        if checkpoint.epoch in self.epochs:
            raise CheckpointError(f"cannot write {folder / LAST}: No space left on device")
        save_checkpoint(folder, checkpoint, best=best)


def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(
    tiny_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training matters more than a single checkpoint; the next checkpoint is complete again."""
    monkeypatch.setattr(loop, "save_checkpoint", SickFolder(2).save)
    output = io.StringIO()
    config = tiny_runs.config(epochs=3)
    summary, recorded = tiny_runs.train(config, progress=Progress(output))
    assert summary is not None
    (warning,) = (line for line in output.getvalue().splitlines() if not line.startswith("epoch "))
    assert warning == (
        f"WARNING: cannot write {config.checkpoint_dir / LAST}: No space left on device;"
        " training goes on, and the next epoch is saved again"
    )
    losses = [value for _, value in recorded.scalars()["loss/val/total"]]
    best, last = (load_checkpoint(config.checkpoint_dir / name) for name in (BEST, LAST))
    assert last.epoch == 3
    assert best.epoch == (3 if losses[2] < losses[0] else 1)
    assert last.best_validation_loss == losses[best.epoch - 1]


def test_a_run_whose_last_epoch_is_kept_nowhere_has_failed(
    tiny_runs: Any, recorded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "save_checkpoint", SickFolder(2).save)
    config = tiny_runs.config(epochs=2)
    with pytest.raises(CheckpointError, match="No space left on device"):
        tiny_runs.train(config)
    assert load_checkpoint(config.checkpoint_dir).epoch == 1
    said = recorded(tiny_runs.recording(config, 0))
    assert [end for _, end in said.of(RunEnd)] == [RunEnd("failed")]
    assert len(said.of(HParams)) == 1


def test_a_resume_that_cannot_keep_its_checkpoint_is_told_before_it_trains(
    tiny_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_runs.config(epochs=2)
    with pytest.raises(Interrupted):
        tiny_runs.train(config, stop=StopAtStep(3))
    monkeypatch.setattr(loop, "save_checkpoint", SickFolder(1).save)
    with pytest.raises(CheckpointError, match="No space left on device"):
        tiny_runs.train(config, checkpoint=load_checkpoint(config.checkpoint_dir), stop=StopAtStep(1))


def test_a_batch_left_too_small_is_a_step_all_the_same(tiny_runs: Any) -> None:
    """Seven of eight pictures of a batch are lost: the steps, and the rate at each, are those of a whole data set."""
    whole = tiny_runs.config("whole", epochs=1)
    _, wanted = tiny_runs.train(whole)
    batch_of_one = {draw.pair for draw in next(iter(epoch_order(tiny_runs, whole, 1)))[1:]}
    names = {tiny_runs.data.train[pair].image_name for pair in batch_of_one}
    train = tuple(
        replace(pair, image=pair.image.with_name("gone.jpg")) if pair.image_name in names else pair
        for pair in tiny_runs.data.train
    )
    tiny_runs.data = replace(tiny_runs.data, train=train)
    summary, recorded = tiny_runs.train(tiny_runs.config("broken", epochs=1))
    assert summary is not None
    assert summary.global_step == 2
    assert recorded.scalars()["optimization/lr"] == wanted.scalars()["optimization/lr"][1:]


def test_a_data_set_of_which_nothing_can_be_decoded_is_one_clear_error(tiny_runs: Any) -> None:
    train = tuple(replace(pair, image=pair.image.with_name("gone.jpg")) for pair in tiny_runs.data.train)
    tiny_runs.data = replace(tiny_runs.data, train=train)
    with pytest.raises(DataError, match="no two pairs of a training batch could be decoded"):
        tiny_runs.train(tiny_runs.config())


@pytest.mark.parametrize(("trained", "validated"), [(1, 2), (16, 1)])
def test_less_than_two_pictures_are_refused(tiny_runs: Any, trained: int, validated: int) -> None:
    """A single picture would have a loss of zero, which no later model could beat."""
    data = tiny_runs.data
    tiny_runs.data = replace(data, train=data.train[: 5 * trained], validation=data.validation[: 5 * validated])
    with pytest.raises(DataError, match=f"{trained} pictures to train on and {validated} to validate with; two of"):
        tiny_runs.train(tiny_runs.config())


def test_best_checkpoint_is_that_of_the_lowest_validation_loss(tiny_runs: Any) -> None:
    config = tiny_runs.config(epochs=3, lr=0.3)
    _, recorded = tiny_runs.train(config)
    losses = [value for _, value in recorded.scalars()["loss/val/total"]]
    best, last = (load_checkpoint(config.checkpoint_dir / name) for name in (BEST, LAST))
    assert best.epoch == 1 + losses.index(min(losses))
    assert last.epoch == 3
    assert last.best_validation_loss == min(losses)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains_to_finite_losses(tiny_runs: Any, precision: str) -> None:
    _, recorded = tiny_runs.train(tiny_runs.config(epochs=1, batch_size=16, precision=precision))
    assert all(math.isfinite(value) for _, value in recorded.scalars()["loss/train/total"])


def test_a_data_set_without_validation_pairs_is_refused(tiny_runs: Any) -> None:
    tiny_runs.data = type(tiny_runs.data)(tiny_runs.data.train, (), (), tiny_runs.data.report)
    with pytest.raises(DataError, match="0 to validate with"):
        tiny_runs.train(tiny_runs.config())


def test_a_finding_is_told_while_the_run_trains(tiny_runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("loss-spike", "warn", "loss/train/total", "open", 1, 2, 5, 3.2, {"value": 6.4}, "Look.")
    monkeypatch.setattr(Telemetry, "findings", lambda telemetry: (finding,) if telemetry.cost.step >= 2 else ())
    output = io.StringIO()
    summary, _ = tiny_runs.train(tiny_runs.config(epochs=2, log_interval=1), progress=Progress(output))
    assert summary is not None
    lines = output.getvalue().splitlines()
    [at] = [
        at for at, line in enumerate(lines) if line.startswith("finding open: warn: loss-spike of loss/train/total")
    ]
    assert at < len(lines) - 1
