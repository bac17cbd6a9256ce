import os
import shutil
from dataclasses import fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from tensorboard_sidecar.protocol.storage.folder_lock import hold_folder
from tensorboard_sidecar.trainer.checkpoints.checkpoint import FORMAT, CheckpointError, load_checkpoint
from tensorboard_sidecar.trainer.checkpoints.resume import LOCK_NAME
from tensorboard_sidecar.trainer.data import DataError
from tensorboard_sidecar.trainer.launch import launch
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import ConfigError


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
    [({}, "resume is auto, and run is not given"), ({"run": "../out"}, "run"), ({"run": "a", "lr": -1.0}, "lr is -1")],
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
