"""The training of transformers with ``SidecarCallback``, beside the same training with the stock callback."""

from pathlib import Path

import pytest
from frameworks.compare import Events, assert_same_events, events_of, status_of
from frameworks.programs.transformers_stock import STEPS, train
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from tensorboard_sidecar import SummaryWriter
from tensorboard_sidecar.integrations.transformers import SidecarCallback


def in_any_output(events: Events, folder: Path) -> Events:
    """Return the events without the name of the output folder and of the reporter, which the text of arguments has."""
    reporters = {'"report_to": []': "REPORTER", '"report_to": [\n    "tensorboard"\n  ]': "REPORTER"}
    return {
        curve: [(step, replaced(value, {str(folder): "FOLDER", **reporters})) for step, value in points]
        for curve, points in events.items()
    }


def replaced(value: object, parts: dict[str, str]) -> object:
    if isinstance(value, str):
        for old, new in parts.items():
            value = value.replace(old, new)
    return value


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, *, stock: bool = False) -> Events:
    """Train with the callback of this project or the stock callback; return the events of ``folder``."""
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(folder))
    if stock:
        train(folder / "output", report_to="tensorboard")
    else:
        callback = SidecarCallback()
        train(folder / "output", report_to="none", callbacks=(callback,))
        callback.tb_writer.close()
    return in_any_output(events_of(folder), folder)


def test_a_training_logs_what_it_logs_with_the_stock_callback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments, the config of the model, and the metrics of each step and of each evaluation."""
    ours = trained(tmp_path / "ours", monkeypatch)
    assert_same_events(ours, trained(tmp_path / "stock", monkeypatch, stock=True))


def test_an_evaluation_after_the_training_adds_to_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = trained(tmp_path, monkeypatch)
    assert {curve.folder for curve in events} == {"."}
    assert [points for curve, points in events.items() if curve.tag == "test/loss"] != []
    assert [len(points) for curve, points in events.items() if curve.tag == "train/loss"] == [STEPS]


def test_a_given_writer_is_used_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock callback leaves the given writer after the training."""
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    callback = SidecarCallback(SummaryWriter(log_dir=tmp_path / "given"))
    train(tmp_path / "output", report_to="none", callbacks=(callback,))
    assert status_of(tmp_path / "given") == "completed"
    callback.tb_writer.close()
    tags = {curve.tag for curve in events_of(tmp_path / "given")}
    assert {"train/loss", "eval/loss", "train/train_loss", "test/loss"} <= tags
    assert not (tmp_path / "output/runs").exists()


def test_the_callback_takes_the_place_of_the_stock_callback() -> None:
    assert issubclass(SidecarCallback, TensorBoardCallback)


def begin(callback: SidecarCallback, folder: Path, state: TrainerState) -> None:
    arguments = TrainingArguments(output_dir=str(folder), report_to="none", use_cpu=True)
    callback.on_train_begin(arguments, state, TrainerControl())


def test_other_processes_log_nothing(tmp_path: Path) -> None:
    callback = SidecarCallback()
    begin(callback, tmp_path, TrainerState(is_world_process_zero=False))
    assert callback.tb_writer is None
    assert list(tmp_path.iterdir()) == []


def test_each_trial_of_a_search_has_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    callback, folders = SidecarCallback(), set()
    for name in ("run-0", "run-1"):
        state = TrainerState(is_hyper_param_search=True, trial_name=name)
        begin(callback, tmp_path, state)
        assert callback.tb_writer is not None
        folders.add(Path(callback.tb_writer.log_dir).name)
        callback.on_train_end(TrainingArguments(output_dir=str(tmp_path)), state, TrainerControl())
    assert folders == {"run-0", "run-1"}
