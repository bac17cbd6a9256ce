"""The command ``doctor`` where a half of it, or its library, is not installed."""

import pytest

from tensorboard_sidecar import doctor
from tensorboard_sidecar.__main__ import main

NEEDS = "error: doctor needs {}, which is not installed: pip install 'tensorboard-sidecar[{}]'\n"


@pytest.mark.parametrize(
    ("arguments", "absent", "said"),
    [
        (["runs"], "tensorboard_sidecar.logger_service", "error: doctor is not a part of this installation\n"),
        (["--live"], "tensorboard_sidecar.telemetry", "error: doctor --live is not a part of this installation\n"),
        (["runs"], "tensorboardX", NEEDS.format("tensorboardX", "logger")),
        (["--live"], "torch", NEEDS.format("torch", "telemetry")),
    ],
)
def test_a_half_that_is_not_installed_is_named(
    arguments: list[str], absent: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image of the trainer holds no logger, and the image of the logger no client."""
    find_spec = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == absent else find_spec(name))
    assert main(["doctor", *arguments]) == 2
    assert capsys.readouterr().err == said
