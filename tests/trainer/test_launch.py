import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from trainer.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from trainer.config import Config
from trainer.data import DataError
from trainer.invocation import how_to_run
from trainer.launch import how_to_resume, launch, settle_config
from trainer.progress import Progress
from trainer.setting import ConfigError


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
    assert (
        how_to_resume(config) == f"Go on with: {how_to_run('trainer')} --resume '{tmp_path}/my checkpoints/a/last.pt'"
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
    assert output.getvalue() == "run tiny has finished its 2 epochs; more of them: --epochs N\n"
    assert (first.checkpoint_dir / "last.pt").read_bytes() == before
    assert load_checkpoint(first.checkpoint_dir).attempt == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "resume is auto, and run is not given"), ({"run": "../out"}, "run"), ({"run": "a", "lr": -1.0}, "lr is -1")],
)
def test_resume_auto_looks_nowhere_before_the_settings_are_checked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        launch({"resume": Path("auto"), **given}, Progress(None), default_run="unused")


def test_resume_auto_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    config = Config(savedir=tmp_path, run="a", resume=Path("auto"))
    config.checkpoint_dir.mkdir()
    (config.checkpoint_dir / "last.pt").touch()
    assert how_to_resume(config) == "Go on with the same command."


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
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="name it with --run"):
        launch({}, Progress(None), default_run="flickr8k/now")


def test_a_missing_checkpoint_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        launch({"resume": tmp_path / "gone.pt"}, Progress(None), default_run="unused")


def test_a_checkpoint_of_another_model_is_one_error(tiny_runs: Any) -> None:
    checkpoint = make_checkpoint(config=tiny_runs.config("kept/run", epochs=4).parameters())
    with pytest.raises(CheckpointError, match="does not fit this model"):
        tiny_runs.train(settle_config({}, checkpoint, default_run=""), checkpoint=checkpoint)


def test_places_of_telemetry_are_those_that_were_given(tiny_runs: Any, tmp_path: Path) -> None:
    """Each is said to be what it cannot be."""
    for name in ("outbox_dir", "spill_dir"):
        place = tmp_path / name
        place.touch()
        with pytest.raises(ConfigError, match=f"telemetry cannot start: .*{name}"):
            launch(given_for(tiny_runs, **{name: place}), Progress(None), default_run="unused")
