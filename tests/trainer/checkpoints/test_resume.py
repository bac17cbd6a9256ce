import errno
import fcntl
import math
import os
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tensorboard_sidecar.trainer.checkpoints.checkpoint import (
    BEST,
    LAST,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from tensorboard_sidecar.trainer.checkpoints.resume import (
    LOCK_NAME,
    comparable,
    hold_checkpoints,
    how_to_resume,
    settle_checkpoint,
    settle_config,
)
from tensorboard_sidecar.trainer.invocation import how_to_run
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import Config, ConfigError


def make_checkpoint(**changes: Any) -> Checkpoint:
    config = Config(run="kept/run", lr=5e-4, embed_dim=64, epochs=4)
    checkpoint = Checkpoint(
        run="kept/run",
        attempt=0,
        epoch=2,
        global_step=20,
        best_validation_loss=1.0,
        config=config.parameters(),
        vocabulary=[],
        model={},
        optimizer={},
        scheduler={},
        scaler={},
        random={},
    )
    return replace(checkpoint, **changes)


def test_a_new_run_gets_a_name() -> None:
    assert settle_config({}, None, default_run="flickr8k/now").run == "flickr8k/now"
    assert settle_config({"run": "mine"}, None, default_run="flickr8k/now").run == "mine"


def test_a_resumed_run_keeps_its_settings_but_for_those_given() -> None:
    config = settle_config({"epochs": 9, "endpoint": "tcp://other:1"}, make_checkpoint(), default_run="flickr8k/now")
    assert (config.run, config.lr, config.embed_dim) == ("kept/run", 5e-4, 64)
    assert (config.epochs, config.endpoint) == (9, "tcp://other:1")


@pytest.mark.parametrize("given", [{"embed_dim": 128}, {"backbone": "resnet50"}, {"run": "other"}])
def test_what_cannot_change_on_resume_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(given))} is .* but the checkpoint's is .*: leave it out"):
        settle_config(given, make_checkpoint(), default_run="flickr8k/now")


def test_a_finished_run_asks_for_more_epochs() -> None:
    with pytest.raises(ConfigError, match="has finished 4 epochs: give --epochs above that"):
        settle_config({}, make_checkpoint(epoch=4), default_run="flickr8k/now")


def test_how_to_resume_is_a_command_for_the_shell(tmp_path: Path) -> None:
    config = Config(savedir=tmp_path / "my checkpoints", run="a")
    assert "no checkpoint" in how_to_resume(config)
    config.checkpoint_dir.mkdir(parents=True)
    (config.checkpoint_dir / "last.pt").touch()
    assert how_to_resume(config) == f"Go on with: {how_to_run('train')} --resume '{tmp_path}/my checkpoints/a/last.pt'"
    assert (
        how_to_resume(config, processes=2)
        == f"Go on with torchrun as before, and: --resume '{tmp_path}/my checkpoints/a/last.pt'"
    )


def test_resume_auto_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    config = Config(savedir=tmp_path, run="a", resume=Path("auto"))
    config.checkpoint_dir.mkdir()
    (config.checkpoint_dir / "last.pt").touch()
    assert how_to_resume(config) == "Go on with the same command."


def test_a_checkpoint_of_another_model_is_one_error(tiny_runs: Any) -> None:
    checkpoint = make_checkpoint(config=tiny_runs.config("kept/run", epochs=4).parameters())
    with pytest.raises(CheckpointError, match="does not fit this model"):
        tiny_runs.train(settle_config({}, checkpoint, default_run=""), checkpoint=checkpoint)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return the settings of a run that has a last checkpoint, of its attempt 4 at step 50."""
    config = Config(savedir=tmp_path, run="kept/run")
    save_checkpoint(config.checkpoint_dir, make_checkpoint(attempt=4, global_step=50))
    return config


def settle(config: Config, name: str, output: StringIO | None = None, *, leading: bool = True) -> Checkpoint | None:
    path = config.checkpoint_dir / name
    return settle_checkpoint(config, path, load_checkpoint(path), Progress(output), leading=leading)


@pytest.mark.parametrize(("step", "kept"), [(20, True), (50, False), (70, False)])
def test_a_checkpoint_beside_the_runs_last_goes_on_as_an_attempt_after_all_others(
    config: Config, step: int, kept: bool
) -> None:
    save_checkpoint(config.checkpoint_dir / "elsewhere", make_checkpoint(attempt=1, global_step=step))
    output = StringIO()
    found = settle(config, "elsewhere", output)
    assert found is not None
    assert (found.attempt, found.global_step) == (4, step)
    assert (config.checkpoint_dir / "last-attempt-4.pt").exists() is kept
    assert output.getvalue().count("is ahead") == kept


def test_only_one_of_several_processes_keeps_the_runs_last(config: Config) -> None:
    save_checkpoint(config.checkpoint_dir / "elsewhere", make_checkpoint())
    found = settle(config, "elsewhere", leading=False)
    assert found is not None
    assert found.attempt == 4
    assert not (config.checkpoint_dir / "last-attempt-4.pt").exists()


def test_a_best_that_is_the_last_as_well_needs_no_second_name(config: Config) -> None:
    save_checkpoint(config.checkpoint_dir, make_checkpoint(attempt=5), best=True)
    for name in (LAST, BEST, "."):
        found = settle(config, name)
        assert found is not None
        assert found.attempt == 5
    assert sorted(path.name for path in config.checkpoint_dir.iterdir()) == [BEST, LAST]


def test_a_last_that_went_on_while_its_folder_was_waited_for_is_read_again(config: Config) -> None:
    before = load_checkpoint(config.checkpoint_dir)
    save_checkpoint(config.checkpoint_dir, make_checkpoint(attempt=9))
    found = settle_checkpoint(config, config.checkpoint_dir, before, Progress(None), leading=True)
    assert found is not None
    assert found.attempt == 9


def test_a_broken_last_keeps_nobody_from_the_best(config: Config) -> None:
    save_checkpoint(config.checkpoint_dir / "elsewhere", make_checkpoint(attempt=1))
    (config.checkpoint_dir / LAST).write_bytes(b"cut off")
    output = StringIO()
    found = settle(config, "elsewhere", output)
    assert found is not None
    assert found.attempt == 1
    assert "last.pt is no checkpoint, or a broken one" in output.getvalue()


def test_a_best_loss_of_other_batches_is_no_measure(config: Config) -> None:
    """With more negatives, every loss is higher: best.pt would stay that of the smaller batches."""
    output = StringIO()
    checkpoint = make_checkpoint()
    assert comparable(checkpoint, config, Progress(output)) is checkpoint
    assert output.getvalue() == ""
    larger = replace(config, batch_size=64)
    assert comparable(checkpoint, larger, Progress(output)).best_validation_loss == math.inf
    assert output.getvalue().startswith("batch_size was 32: ")


def test_one_trainer_holds_the_checkpoints_of_a_run(config: Config) -> None:
    with (
        hold_checkpoints(config, Progress(None)),
        pytest.raises(ConfigError, match=rf"another trainer \(process {os.getpid()}\) trains run kept/run"),
        hold_checkpoints(config, Progress(None)),
    ):
        pass
    with hold_checkpoints(config, Progress(None)):
        assert (config.checkpoint_dir / LOCK_NAME).exists()


def test_a_file_system_without_locks_is_trained_on_and_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    output = StringIO()
    with hold_checkpoints(config, Progress(output)):
        pass
    assert "cannot be locked (Function not implemented): make sure that no other trainer uses it" in output.getvalue()
