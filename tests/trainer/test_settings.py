import math
from pathlib import Path
from typing import Any

import pytest

from tensorboard_sidecar.trainer.settings import Config, ConfigError, Setting, check_given, from_parameters, settings


@pytest.mark.parametrize("value", [0, 11, math.nan, math.inf])
def test_numbers_outside_their_bounds_are_refused_with_both_bounds(value: float) -> None:
    with pytest.raises(ConfigError, match=r"epochs is .*; expected 1 to 10"):
        Setting("training", "", 1, 10).check("epochs", value)


def test_an_open_bound_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match="steps is -1; expected 0 or more"):
        Setting("training", "", 0).check("steps", -1)


@pytest.mark.parametrize("digits", [19, 400, 5000])
@pytest.mark.parametrize("maximum", [10, math.inf])
def test_an_int_that_no_float_could_hold_is_one_clear_error(digits: int, maximum: float) -> None:
    """One is too long even to be written out."""
    for value in (10**digits, -(10**digits)):
        with pytest.raises(ConfigError, match=r"steps is of more than 64 bits; expected 0 (to 10|or more)"):
            Setting("training", "", 0, maximum).check("steps", value)


@pytest.mark.parametrize("value", [1, 10, 5.5, True, "text", None])
def test_allowed_values_pass(value: Any) -> None:
    Setting("training", "", 1, 10).check("x", value)


def test_an_unknown_choice_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="precision is 'fp8'; expected one of fp32, bf16"):
        Setting("training", "", choices=("fp32", "bf16")).check("precision", "fp8")


def test_defaults_of_the_two_intervals() -> None:
    assert (Config().log_interval, Config().histogram_interval) == (10, 5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"epochs": 0}, "epochs is 0; expected 1 to"),
        ({"batch_size": 1}, "batch_size is 1; expected 2 to"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"lr": -1e-3}, "lr is -0.001"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of fp32, bf16, fp16"),
        ({"backbone": "vgg"}, "backbone is 'vgg'; expected one of resnet18"),
        ({"embed_dim": 30}, "embed_dim is 30; expected a multiple of 4"),
        ({"image_size": 16}, "image_size is 16; expected 32 to 1024"),
        ({"log_interval": 0}, "log_interval is 0; expected 1 or more"),
        ({"histogram_interval": -5}, "histogram_interval is -5; expected 1 or more"),
        ({"max_seconds": 0.0}, "max_seconds is 0.0; expected 0.1 to 60"),
        ({"log_interval": 10**400}, "log_interval is of more than 64 bits"),
        ({"warmup_steps": 2**63}, "warmup_steps is of more than 64 bits"),
        ({"device": "cuda:999"}, "device is 'cuda:999'; expected auto, cpu, cuda or cuda:N"),
        ({"num_workers": -1}, "num_workers is -1"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"device": "tpu"}, "device is 'tpu'; expected auto, cpu, cuda or cuda:N"),
        ({"endpoint": "127.0.0.1:5555"}, "endpoint is '127.0.0.1:5555'; expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://host"}, "expected tcp://HOST:PORT"),
        ({"outbox_bytes": 2**20 - 1}, "outbox_bytes is 1048575; expected 1048576 or more"),
        ({"spill_bytes": -1}, "spill_bytes is -1; expected 0 or more"),
        ({"endpoint": "tcp://host:0"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "tcp://host:70000"}, "expected tcp://HOST:PORT"),
        ({"endpoint": "none"}, "no telemetry would be kept; add --record DIR"),
        ({"run": ".."}, "run '..' is empty or names no folder"),
        ({"run": "/"}, "run '/' is empty or names no folder"),
    ],
)
def test_what_cannot_work_is_refused_in_one_clear_line(changes: dict[str, Any], complaint: str) -> None:
    for check in (lambda: Config(**changes), lambda: check_given(changes)):
        with pytest.raises(ConfigError, match=complaint.replace("/", r"\/").replace("..", r"\.\.")) as refused:
            check()
        assert "\n" not in str(refused.value)


def test_settings_of_a_resumed_run_are_refused_only_where_no_checkpoint_makes_them_right() -> None:
    resumed: dict[str, Any] = {"resume": Path("last.pt")}
    check_given({**resumed, "endpoint": "none"})  # the checkpoint may have a record
    with pytest.raises(ConfigError, match="epochs is 0; expected 1 to"):
        check_given({**resumed, "epochs": 0})


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": "none", "record": Path("recordings")},
        {"endpoint": "tcp://logger.example:65535"},
        {"endpoint": "tcp://[::1]:5555"},
        {"endpoint": "ipc:///tmp/logger.sock"},
        {"device": "cuda:3"},
        {"run": "team/first try"},
        {"run": "2026-01-01 10:00:00"},
        {"run": "../up"},
        {"run": "a//b"},
        {"run": "x" * 1000},
        {"run": "a\nb"},
    ],
)
def test_what_can_work_is_taken(changes: dict[str, Any]) -> None:
    Config(**changes)


def test_parameters_are_plain_and_lead_back_to_the_same_settings() -> None:
    config = Config(record=Path("a/b"), lr=2e-4, run="x/y", pretrained=True)
    parameters = config.parameters()
    assert {type(value) for value in parameters.values()} <= {bool, int, float, str}
    assert Config(**from_parameters(parameters)) == config


def test_a_whole_number_is_a_learning_rate_as_well() -> None:
    """Whoever writes Config(lr=1) in Python can go on with that run."""
    config = Config(lr=1, drain_seconds=3)
    assert Config(**from_parameters(config.parameters())) == config


def test_what_all_processes_of_a_run_have_in_common_is_how_they_train_and_not_where() -> None:
    common = set(Config().of_training())
    assert {"lr", "batch_size", "epochs", "seed", "embed_dim", "precision"} <= common
    assert not common & {"device", "root_dir", "num_workers", "savedir", "endpoint", "outbox_dir"}


def test_parameters_of_another_version_are_taken_as_far_as_they_are_known() -> None:
    assert from_parameters({"lr": 0.5, "gone": 1}) == {"lr": 0.5}


@pytest.mark.parametrize("parameters", [{"lr": "fast"}, {"epochs": True}, {"root_dir": 5}, {"run": None}])
def test_parameters_of_another_type_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(parameters))} is"):
        from_parameters(parameters)


def test_every_setting_has_an_explanation() -> None:
    assert all(setting.explanation and setting.group for _, setting in settings().values())


def test_checkpoints_of_a_run_have_their_own_folder() -> None:
    assert Config(savedir=Path("kept"), run="a/b").checkpoint_dir == Path("kept/a/b")
    assert Config(savedir=Path("kept"), run="/a+b").checkpoint_dir == Path("kept/a~2Bb"), "as TensorBoard names it"
    assert Config(savedir=Path("kept"), run="../../b").checkpoint_dir == Path("kept/b")
    assert Config(savedir=Path("kept")).checkpoint_dir == Path("kept")
