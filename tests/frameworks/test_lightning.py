"""Lightning's training with ``SidecarLogger``, beside the same training with Lightning's own logger."""

import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning
import torch
import yaml
from frameworks import lightning_parallel
from frameworks.compare import assert_same_events, events_of, status_of
from frameworks.programs.lightning_stock import BATCHES, EPOCHS, train
from lightning.fabric import Fabric
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from tensorboard_sidecar.integrations.lightning import SidecarLogger


def test_a_training_logs_what_it_logs_with_the_stock_logger(tmp_path: Path) -> None:
    """Scalars, overlaid curves, histograms, texts, hyperparameters and the graph: from fit, validation and test."""
    train(SidecarLogger(tmp_path / "ours", log_graph=True))
    train(TensorBoardLogger(tmp_path / "stock", log_graph=True))
    assert_same_events(events_of(tmp_path / "ours"), events_of(tmp_path / "stock"))


def test_the_scalars_of_fit_are_those_of_the_stock_logger(tmp_path: Path) -> None:
    train(SidecarLogger(tmp_path / "ours"))
    train(TensorBoardLogger(tmp_path / "stock"))
    ours, stock = ({c.tag: points for c, points in events_of(tmp_path / of).items()} for of in ("ours", "stock"))
    assert len(stock["loss/train_step"]) == BATCHES * EPOCHS
    for tag in ("loss/train_step", "loss/train_epoch", "loss/val", "hp_metric"):
        assert ours[tag][: len(stock[tag])] == stock[tag], tag


def test_the_hyperparameters_are_in_the_file_that_the_stock_logger_writes(tmp_path: Path) -> None:
    train(SidecarLogger(tmp_path / "ours"))
    train(TensorBoardLogger(tmp_path / "stock"))
    ours, stock = (tmp_path / of / "lightning_logs/version_0/hparams.yaml" for of in ("ours", "stock"))
    assert yaml.safe_load(ours.read_text()) == yaml.safe_load(stock.read_text())
    assert ours.read_text() == stock.read_text()


def test_a_test_after_fit_adds_to_the_run_of_fit(tmp_path: Path) -> None:
    train(SidecarLogger(tmp_path, version="one"))
    events = events_of(tmp_path)
    assert {curve.folder.removeprefix("lightning_logs/one").strip("/") for curve in events} == {
        "",
        "both_one",
        "both_two",
    }
    [accuracy] = [points for curve, points in events.items() if curve.tag == "accuracy/test"]
    assert [step for step, _ in accuracy] == [BATCHES * EPOCHS]


def test_a_training_that_ends_has_completed(tmp_path: Path) -> None:
    train(SidecarLogger(tmp_path, version="one"))
    assert status_of(tmp_path / "lightning_logs/one") == "completed"


def test_a_training_that_raises_has_failed(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        train(SidecarLogger(tmp_path, version="one"), fails_at=3)
    assert status_of(tmp_path / "lightning_logs/one") == "failed"
    [losses] = [points for curve, points in events_of(tmp_path).items() if curve.tag == "loss/train_step"]
    assert [step for step, _ in losses] == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "failed"), (ValueError, "failed"), (KeyboardInterrupt, "interrupted")]
)
def test_finalize_tells_how_a_run_failed(tmp_path: Path, error: type[BaseException] | None, status: str) -> None:
    """Lightning finalizes while it handles the error; other callers may have no error at hand."""
    logger = SidecarLogger(tmp_path, name="", version="one")
    logger.log_metrics({"loss": 1.0}, 0)
    try:
        if error is not None:
            raise error  # noqa: TRY301 - Lightning calls finalize in such a block
    except BaseException:  # noqa: BLE001 - as Lightning
        logger.finalize("failed")
    else:
        logger.finalize("failed")
    assert status_of(tmp_path / "one") == status


def test_a_logger_that_logged_nothing_is_finalized_without_a_run(tmp_path: Path) -> None:
    SidecarLogger(tmp_path).finalize("failed")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"name": "mine"},
        {"name": ""},
        {"name": None},
        {"version": 7},
        {"version": "best"},
        {"sub_dir": "deeper"},
        {"name": "a/b", "version": "c", "sub_dir": "d"},
    ],
    ids=str,
)
def test_the_folders_are_those_of_the_stock_logger(tmp_path: Path, given: dict[str, Any]) -> None:
    """Two loggers one after the other: the second has the next version."""
    for _ in range(2):
        ours, stock = SidecarLogger(tmp_path / "ours", **given), TensorBoardLogger(tmp_path / "stock", **given)
        for logger in (ours, stock):
            logger.log_metrics({"loss": 1.0}, 0)
            logger.save()
            logger.finalize("success")
        assert Path(ours.log_dir).relative_to(tmp_path / "ours") == Path(stock.log_dir).relative_to(tmp_path / "stock")
        assert (ours.name, ours.version, ours.sub_dir) == (stock.name, stock.version, stock.sub_dir)
        assert Path(ours.root_dir).relative_to(ours.save_dir) == Path(stock.root_dir).relative_to(stock.save_dir)
        assert Path(ours.log_dir, "hparams.yaml").exists()


def test_a_prefix_stands_before_each_metric(tmp_path: Path) -> None:
    for logger in (SidecarLogger(tmp_path / "ours", prefix="a"), TensorBoardLogger(tmp_path / "stock", prefix="a")):
        logger.log_metrics({"loss": torch.tensor(0.5), "count": 3}, 2)
        logger.finalize("success")
    events = events_of(tmp_path / "ours")
    assert {curve.tag for curve in events} == {"a-loss", "a-count"}
    assert_same_events(events, events_of(tmp_path / "stock"))


def test_other_ranks_log_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = SidecarLogger(tmp_path)
    logger.experiment.add_scalar("loss", 1.0, 0)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_a_logger_makes_a_writer_of_its_own(tmp_path: Path) -> None:
    """Launchers that spawn send the logger to the other process."""
    logger = SidecarLogger(tmp_path, version="one")
    logger.log_metrics({"loss": 1.0}, 0)
    copy = deepcopy(logger)
    assert copy.log_dir == logger.log_dir
    assert copy._experiment is None
    logger.finalize("success")


def test_a_folder_on_another_file_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a local folder, got save_dir='s3://bucket/runs'"):
        SidecarLogger("s3://bucket/runs")
    assert isinstance(SidecarLogger(tmp_path), TensorBoardLogger)


def test_fabric_takes_the_logger(tmp_path: Path) -> None:
    logger = SidecarLogger(tmp_path, name="", version="one")
    fabric = Fabric(accelerator="cpu", devices=1, loggers=logger)
    fabric.launch()
    for step in range(3):
        fabric.log_dict({"loss": torch.tensor(float(step))}, step)
    logger.finalize("success")
    assert [points for curve, points in events_of(tmp_path / "one").items() if curve.tag == "loss"] == [
        [(0, 0.0), (1, 1.0), (2, 2.0)]
    ]


@pytest.mark.system
@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn", "ddp_fork"])
def test_two_processes_log_one_run(strategy: str, tmp_path: Path) -> None:
    """Rank 0 alone logs, be the other process a second start of the program, spawned or forked."""
    program = [sys.executable, lightning_parallel.__file__, tmp_path, strategy]
    subprocess.run(program, check=True, timeout=240)
    assert {curve.tag: points for curve, points in events_of(tmp_path).items() if "rank" in curve.tag} == {
        tag: [(step, 0.0) for step in range(lightning_parallel.STEPS)] for tag in ("rank", "also/rank")
    }
    assert status_of(tmp_path / "one") == "completed"


def test_the_trainer_of_pytorch_lightning_takes_the_logger(tmp_path: Path) -> None:
    """``lightning`` and ``pytorch_lightning`` have the same classes twice."""

    class Line(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(4, 1)

        def training_step(self, batch: torch.Tensor) -> torch.Tensor:
            self.log("count", 4.0)
            return self.layer(batch).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = pytorch_lightning.Trainer(
        accelerator="cpu",
        logger=SidecarLogger(tmp_path, name="", version="one"),
        max_epochs=1,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), torch.utils.data.DataLoader(torch.zeros(8, 4), batch_size=4))
    assert [points for curve, points in events_of(tmp_path).items() if curve.tag == "count"] == [[(0, 4.0), (1, 4.0)]]
    assert status_of(tmp_path / "one") == "completed"
