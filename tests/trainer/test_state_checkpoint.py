import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tensorboard_sidecar.trainer.state import (
    BEST,
    LAST,
    Checkpoint,
    CheckpointError,
    keep_last,
    load_checkpoint,
    random_state,
    save_checkpoint,
)


def make_checkpoint(epoch: int = 1) -> Checkpoint:
    return Checkpoint(
        run="team/first",
        attempt=2,
        epoch=epoch,
        global_step=7 * epoch,
        best_validation_loss=1.5,
        config={"lr": 1e-3, "compile": False, "run": "team/first"},
        vocabulary=["hund", "犬"],
        model={"weight": torch.arange(4.0)},
        optimizer={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999)}]},
        scheduler={"last_epoch": 7, "_last_lr": [0.1]},
        scaler={},
        random=random_state(),
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    saved = make_checkpoint()
    save_checkpoint(tmp_path / "new" / "folder", saved)
    loaded = load_checkpoint(tmp_path / "new" / "folder" / LAST)
    assert torch.equal(loaded.model["weight"], saved.model["weight"])
    assert torch.equal(loaded.random["torch"], saved.random["torch"])
    without = (replace(each, model={}, random={}, optimizer={}) for each in (loaded, saved))
    assert next(without) == next(without)
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]


def test_loading_runs_nothing_in_the_file(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    assert torch.load(tmp_path / LAST, weights_only=True)["run"] == "team/first"


def test_a_folder_means_its_last_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    assert load_checkpoint(tmp_path).epoch == 1


def test_best_stays_when_last_goes_on(tmp_path: Path) -> None:
    for epoch, best in ((1, True), (2, True), (3, False)):
        save_checkpoint(tmp_path, make_checkpoint(epoch), best=best)
    assert load_checkpoint(tmp_path / BEST).epoch == 2
    assert load_checkpoint(tmp_path / LAST).epoch == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST]


def test_a_save_that_fails_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint(1), best=True)
    with pytest.raises((AttributeError, TypeError)):
        save_checkpoint(tmp_path, replace(make_checkpoint(2), model={"broken": lambda: None}), best=True)
    assert load_checkpoint(tmp_path / LAST).epoch == 1
    assert load_checkpoint(tmp_path / BEST).epoch == 1
    save_checkpoint(tmp_path, make_checkpoint(3))
    assert load_checkpoint(tmp_path).epoch == 3


@contextmanager
def small_files(size_bytes: int) -> Iterator[None]:
    """Limit the size of files, as on a disk that becomes full during a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_that_finds_no_room_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    """Torch raises a RuntimeError about file positions."""
    save_checkpoint(tmp_path, make_checkpoint(1), best=True)
    large = replace(make_checkpoint(2), model={"weight": torch.zeros(100_000)})
    with small_files(20_000), pytest.raises(CheckpointError, match=r"cannot write .*/last\.pt: File too large$"):
        save_checkpoint(tmp_path, large, best=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST]
    assert [load_checkpoint(tmp_path / name).epoch for name in (BEST, LAST)] == [1, 1]


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / f"{LAST}.new").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"cannot write .*/last\.pt: No space left on device$"):
        save_checkpoint(tmp_path, make_checkpoint())
    assert list(tmp_path.iterdir()) == []


def test_a_crash_while_saving_never_leaves_a_last_whose_best_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a crash at any point, best.pt is at least as new as last.pt says."""
    save_checkpoint(tmp_path, make_checkpoint(1), best=True)
    renamed: list[str] = []
    rename = Path.replace

    def crash_at_the_second(source: Path, target: Path) -> Path:
        if renamed:
            raise KeyboardInterrupt
        renamed.append(target.name)
        return rename(source, target)

    monkeypatch.setattr(Path, "replace", crash_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, make_checkpoint(2), best=True)
    assert [load_checkpoint(tmp_path / name).epoch for name in (BEST, LAST)] == [2, 1]


def test_a_last_that_is_kept_stays_when_the_next_is_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, make_checkpoint(5))
    for _ in range(2):  # the second time the file exists
        kept = keep_last(tmp_path, 3)
    save_checkpoint(tmp_path, make_checkpoint(2))
    assert kept == tmp_path / "last-attempt-3.pt"
    assert [load_checkpoint(path).epoch for path in (kept, tmp_path)] == [5, 2]


@pytest.mark.parametrize("size", [0, 1, 100, 1000, -1])
def test_a_cut_file_is_one_clear_error(tmp_path: Path, size: int) -> None:
    save_checkpoint(tmp_path, make_checkpoint())
    whole = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match=r"last\.pt is no checkpoint, or a broken one"):
        load_checkpoint(tmp_path)


class Payload:
    """An object that runs code when unpickled without restrictions."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must not run",))


@pytest.mark.parametrize("contents", [b"not a checkpoint", Payload()], ids=["text", "payload"])
def test_foreign_bytes_are_one_clear_error(
    tmp_path: Path, contents: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign.pt"
    path.write_bytes(contents) if isinstance(contents, bytes) else torch.save(contents, path)
    with pytest.raises(CheckpointError, match="no checkpoint, or a broken one"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("contents", [{"model": {}}, torch.zeros(3), {"format": "other 9"}], ids=str)
def test_checkpoints_of_other_programs_are_refused(tmp_path: Path, contents: object) -> None:
    torch.save(contents, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no checkpoint of this trainer"):
        load_checkpoint(tmp_path / "other.pt")


@pytest.mark.parametrize("change", [{"epoch": "three"}, {"model": None}, {"vocabulary": "abc"}], ids=str)
def test_fields_of_another_type_are_named(tmp_path: Path, change: dict[str, Any]) -> None:
    save_checkpoint(tmp_path, replace(make_checkpoint(), **change))
    with pytest.raises(CheckpointError, match=f"broken: {next(iter(change))} missing or of another type"):
        load_checkpoint(tmp_path)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read the checkpoint .*last\.pt: No such file"):
        load_checkpoint(tmp_path / LAST)
