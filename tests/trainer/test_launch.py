"""A run that sends to another machine: without keys it does not begin."""

import errno
import fcntl
import math
import os
import shutil
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from support.logger.key_ring import KeyRing

from tensorboard_sidecar.command_line import how_to_run
from tensorboard_sidecar.protocol.storage.durable import hold_folder
from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.distributed import read_placement
from tensorboard_sidecar.trainer.launch import (
    LOCK_NAME,
    _start_telemetry,
    comparable,
    hold_checkpoints,
    how_to_resume,
    launch,
    settle_checkpoint,
    settle_config,
)
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import Config, ConfigError
from tensorboard_sidecar.trainer.state import (
    BEST,
    FORMAT,
    LAST,
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)


def given_for(tiny_runs: Any, **changes: Any) -> dict[str, Any]:
    config = tiny_runs.config(epochs=1, batch_size=16)
    names = ("root_dir", "run", "endpoint", "record", "savedir", "image_size", "embed_dim", "epochs", "batch_size")
    return {name: getattr(config, name) for name in (*names, "device")} | changes


def test_a_run_is_launched_and_launched_again_from_its_checkpoint(tiny_runs: Any) -> None:
    output = StringIO()
    given = given_for(tiny_runs)
    summary = launch(given, Progress(output), default_run="unused")
    assert summary is not None
    assert summary.run == "tiny"
    lines = output.getvalue().splitlines()
    assert any("16 images for training" in line for line in lines)
    assert lines[-1].startswith("epoch 1/1  step 1  loss ")

    again = launch({"resume": summary.checkpoint_dir, "epochs": 2}, Progress(None), default_run="unused")
    assert again is not None
    assert (again.epochs, again.global_step) == (2, 2)
    assert load_checkpoint(summary.checkpoint_dir).attempt == 1


def test_resume_auto_begins_then_goes_on_then_leaves_a_finished_run_alone(tiny_runs: Any) -> None:
    """The same command each time: what a restarted container types."""
    given = given_for(tiny_runs, resume=Path("auto"))
    first = launch(given, Progress(None), default_run="unused")
    longer = launch(given | {"epochs": 2}, Progress(None), default_run="unused")
    assert first is not None
    assert longer is not None
    assert (first.epochs, longer.epochs, longer.global_step) == (1, 2, 2)
    before = (first.checkpoint_dir / "last.pt").read_bytes()

    output = StringIO()
    assert launch(given | {"epochs": 2}, Progress(output), default_run="unused") is None
    assert output.getvalue() == "run tiny has finished its 2 epochs; to train more: --epochs N\n"
    assert (first.checkpoint_dir / "last.pt").read_bytes() == before
    assert load_checkpoint(first.checkpoint_dir).attempt == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "resume is auto, and run is not given"),
        ({"run": ".."}, "run '..' is empty or names no folder"),
        ({"run": "a", "lr": -1.0}, "lr is -1"),
    ],
)
def test_resume_auto_looks_nowhere_before_the_settings_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launch({"resume": Path("auto"), **given}, Progress(None), default_run="unused")


def test_files_that_cannot_be_decoded_are_named_and_the_rest_is_used(tiny_runs: Any, tmp_path: Path) -> None:
    root = shutil.copytree(tiny_runs.root, tmp_path / "broken")
    picture = root / "Flicker8k_Dataset" / "scene_00003.jpg"
    picture.write_bytes(picture.read_bytes()[:60])
    output = StringIO()
    assert launch(given_for(tiny_runs, root_dir=root), Progress(output), default_run="unused") is not None
    assert "1 files unreadable, their pairs left out: scene_00003.jpg" in output.getvalue()


def test_a_run_with_checkpoints_is_not_overwritten(tiny_runs: Any) -> None:
    given = given_for(tiny_runs)
    launch(given, Progress(None), default_run="unused")
    with pytest.raises(ConfigError, match="exists already: go on with --resume"):
        launch(given, Progress(None), default_run="unused")


def test_a_folder_that_is_no_data_set_is_one_error_and_starts_nothing(tiny_runs: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        launch(given_for(tiny_runs, root_dir=tmp_path / "nothing"), Progress(None), default_run="unused")
    assert not (tmp_path / "recordings").exists()


def test_checkpoints_that_cannot_be_kept_are_told_at_once(tiny_runs: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="checkpoints cannot be kept in"):
        launch(given_for(tiny_runs, savedir=tmp_path / "file"), Progress(None), default_run="unused")


def test_a_recording_that_cannot_be_kept_is_told_at_once(tiny_runs: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="telemetry cannot start"):
        launch(given_for(tiny_runs, record=tmp_path / "file"), Progress(None), default_run="unused")


def test_several_processes_need_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
    for name, value in {**numbers, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="name it with --run"):
        launch({}, Progress(None), default_run="flickr8k/now")


def test_a_second_trainer_of_a_run_is_refused_before_it_reads_anything(tiny_runs: Any) -> None:
    """Both would write one last.pt, and be the same attempt of the same run."""
    given = given_for(tiny_runs, resume=Path("auto"))
    folder = tiny_runs.config().checkpoint_dir
    with hold_folder(folder, LOCK_NAME):
        (folder / "last.pt").write_text("half of a checkpoint, as the other trainer writes it")
        with pytest.raises(ConfigError) as refused:
            launch(given, Progress(None), default_run="unused")
        assert launch({**given, "run": "other"}, Progress(None), default_run="unused") is not None
    assert str(refused.value) == (
        f"another trainer (process {os.getpid()}) trains run tiny and keeps its checkpoints in {folder}:"
        " wait until it ends, stop it, or give another --run or --savedir"
    )


def test_a_run_goes_on_from_its_best_and_keeps_what_it_had_reached(tiny_runs: Any) -> None:
    """Before it has taken a step, its last.pt is that of the best epoch; the later one and its attempt are not lost."""
    given = given_for(tiny_runs, epochs=3)
    assert launch(given, Progress(None), default_run="unused") is not None
    folder = tiny_runs.config().checkpoint_dir
    early = replace(load_checkpoint(folder), epoch=1, global_step=1)
    torch.save({"format": FORMAT, **{item.name: getattr(early, item.name) for item in fields(early)}}, folder / "b.pt")
    assert launch({"resume": folder, "epochs": 4}, Progress(None), default_run="unused") is not None
    output = StringIO()
    assert launch({"resume": folder / "b.pt", "epochs": 2}, Progress(output), default_run="unused") is not None
    assert (
        f"{folder / 'last.pt'} is ahead (step 4, this run resumes from step 1) and is kept as last-attempt-1.pt\n"
        in output.getvalue()
    )
    kept, last = load_checkpoint(folder / "last-attempt-1.pt"), load_checkpoint(folder)
    assert (kept.epoch, kept.attempt) == (4, 1)
    assert (last.epoch, last.attempt) == (2, 2)


def test_a_missing_checkpoint_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        launch({"resume": tmp_path / "gone.pt"}, Progress(None), default_run="unused")


def test_places_of_telemetry_are_those_that_were_given(tiny_runs: Any, tmp_path: Path) -> None:
    """Each is said to be what it cannot be."""
    for name in ("outbox_dir", "spill_dir"):
        place = tmp_path / name
        place.touch()
        with pytest.raises(ConfigError, match=f"telemetry cannot start: .*{name}"):
            launch(given_for(tiny_runs, **{name: place}), Progress(None), default_run="unused")


FAR = "tcp://logger.example.org:5555"


def refusal(config: Config) -> str:
    with pytest.raises(ConfigError) as refused:
        _start_telemetry(config, None, read_placement())
    return str(refused.value)


@pytest.mark.usefixtures("outboxes")
def test_a_logger_on_another_machine_needs_keys_and_the_commands_are_said() -> None:
    said = refusal(Config(run="demo", endpoint=FAR))
    for command in ("keys create DIR --name NAME", "keys allow NAME PUBLIC_KEY", "--server_key", "--client_key"):
        assert command in said


@pytest.mark.usefixtures("outboxes")
def test_keys_that_cannot_be_used_end_the_start_with_what_to_do(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    keys = ring.make_trainer(let_in=False)
    assert "client_key is not given" in refusal(Config(run="demo", endpoint=FAR, server_key=ring.server_public))
    ring.client_key().chmod(0o644)
    config = Config(run="demo", endpoint=FAR, server_key=str(ring.server_key), client_key=ring.client_key())
    said = refusal(config)
    assert "chmod 600" in said
    assert keys.client_secret not in said


def test_no_secret_is_among_the_settings_that_are_shown(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    keys = ring.make_trainer()
    config = Config(run="demo", endpoint=FAR, server_key=ring.server_public, client_key=ring.client_key())
    assert keys.client_secret not in str(config.parameters()) + repr(config)


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
