"""Ignite's training with ``SidecarLogger``, beside the same training with the stock logger."""

from pathlib import Path

import pytest
import torch
from frameworks.compare import assert_same_events, events_of, status_of
from frameworks.programs.ignite_stock import train
from ignite.engine import Engine, Events
from ignite.handlers import tensorboard_logger
from ignite.handlers.tensorboard_logger import TensorboardLogger
from torch import nn

from tensorboard_sidecar.integrations import ignite


@pytest.mark.parametrize("handlers", [ignite, tensorboard_logger], ids=["our handlers", "Ignite's handlers"])
def test_a_training_logs_what_it_logs_with_the_stock_logger(tmp_path: Path, handlers: object) -> None:
    """Every handler: outputs, metrics, parameters of the optimizer, norms and histograms of weights and gradients."""
    train(ignite.SidecarLogger(log_dir=tmp_path / "ours"), handlers)
    train(TensorboardLogger(log_dir=tmp_path / "stock"), tensorboard_logger)
    assert_same_events(events_of(tmp_path / "ours"), events_of(tmp_path / "stock"))


def test_a_training_that_ends_has_completed(tmp_path: Path) -> None:
    train(ignite.SidecarLogger(tmp_path), ignite)
    assert status_of(tmp_path) == "completed"


def test_a_training_that_raises_has_failed(tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        train(ignite.SidecarLogger(tmp_path), ignite, fails_at=4)
    assert status_of(tmp_path) == "failed"
    [losses] = [points for curve, points in events_of(tmp_path).items() if curve.tag == "train/loss"]
    assert [step for step, _ in losses] == [1, 2, 3]


def test_the_logger_has_the_methods_of_its_writer(tmp_path: Path) -> None:
    assert issubclass(ignite.SidecarLogger, TensorboardLogger)
    logger = ignite.SidecarLogger(log_dir=tmp_path)
    logger.add_scalar("loss", 0.5, 3)
    logger.close()
    assert [points for curve, points in events_of(tmp_path).items() if curve.tag == "loss"] == [[(3, 0.5)]]


@pytest.mark.parametrize(
    ("handler", "tags"),
    [
        (ignite.WeightsHistHandler(nn.Linear(2, 1)), {"weights/weight", "weights/bias"}),
        (ignite.WeightsHistHandler(nn.Linear(2, 1), tag="net"), {"net/weights/weight", "net/weights/bias"}),
        (ignite.WeightsHistHandler(nn.Linear(2, 1), whitelist=["bias"]), {"weights/bias"}),
        (ignite.GradsHistHandler(nn.Linear(2, 1)), set()),
    ],
    ids=["all", "tagged", "chosen", "no gradients yet"],
)
def test_histograms_of_a_model(tmp_path: Path, handler: ignite.WeightsHistHandler, tags: set[str]) -> None:
    trainer = Engine(lambda *_: 0.0)
    with ignite.SidecarLogger(log_dir=tmp_path) as logger:
        logger.attach(trainer, handler, Events.EPOCH_COMPLETED)
        trainer.run(torch.zeros(2, 1), max_epochs=1)
        logger.add_scalar("loss", 1.0, 0)
    assert {curve.tag for curve in events_of(tmp_path)} - {"loss"} == tags
