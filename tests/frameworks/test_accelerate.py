"""Accelerate's training with ``SidecarTracker``, beside the same training with the stock tracker."""

from pathlib import Path

import pytest
import yaml
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.tracking import TensorBoardTracker
from frameworks.compare import assert_same_events, events_of, status_of
from frameworks.programs.accelerate_stock import STEPS, train

from tensorboard_sidecar.integrations.accelerate import SidecarTracker


@pytest.fixture(autouse=True)
def _no_state_of_other_trainings() -> None:
    """Forget the state that Accelerate shares between the accelerators of a process."""
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()


def test_a_training_logs_what_it_logs_with_the_stock_tracker(tmp_path: Path) -> None:
    """Numbers, curves in one chart, a text, pictures and a row of hyperparameters."""
    train(str(tmp_path / "ours"), SidecarTracker("line", str(tmp_path / "ours")))
    train(str(tmp_path / "stock"), "tensorboard")
    assert_same_events(events_of(tmp_path / "ours"), events_of(tmp_path / "stock"))


def test_the_scalars_are_those_of_the_stock_tracker(tmp_path: Path) -> None:
    train(str(tmp_path / "ours"), SidecarTracker("line", str(tmp_path / "ours")))
    train(str(tmp_path / "stock"), "tensorboard")
    ours, stock = events_of(tmp_path / "ours"), events_of(tmp_path / "stock")
    for curve in (curve for curve in stock if curve.tag in ("loss", "count")):
        assert len(stock[curve]) == STEPS
        assert ours[curve] == stock[curve]


def test_the_initial_configuration_is_in_a_file(tmp_path: Path) -> None:
    train(str(tmp_path), SidecarTracker("line", tmp_path))
    [file] = tmp_path.rglob("hparams.yml")
    assert yaml.safe_load(file.read_text()) == {"lr": 0.1, "layers": 1, "shuffle": False, "optimizer": "SGD"}
    assert file.parent.parent == tmp_path / "line"


def test_the_end_of_the_training_closes_the_run(tmp_path: Path) -> None:
    train(str(tmp_path), SidecarTracker("line", tmp_path))
    assert status_of(tmp_path / "line") == "completed"


def test_the_tracker_takes_the_place_of_the_stock_tracker(tmp_path: Path) -> None:
    """Scripts look for a tracker by its name, and use its writer."""
    tracker = SidecarTracker("line", tmp_path)
    assert isinstance(tracker, TensorBoardTracker)
    assert (tracker.name, tracker.requires_logging_directory) == ("tensorboard", True)
    tracker.start()
    assert tracker.tracker is tracker.writer
    assert tracker.writer.log_dir == str(tmp_path / "line")
    tracker.finish()
