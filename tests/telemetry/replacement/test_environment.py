import os

import pytest

from tensorboard_sidecar.telemetry.replacement import environment
from tensorboard_sidecar.telemetry.replacement.environment import (
    STARTUP_FOLDER,
    VARIABLE,
    with_replacement,
    without_replacement,
)


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, STARTUP_FOLDER),
        ({"PYTHONPATH": ""}, STARTUP_FOLDER),
        ({"PYTHONPATH": "a:b"}, f"{STARTUP_FOLDER}:a:b"),
        ({"PYTHONPATH": "a:"}, f"{STARTUP_FOLDER}:a:"),
    ],
)
def test_the_folder_of_the_hook_comes_first(given: dict[str, str], path: str) -> None:
    """An empty part of PYTHONPATH means the current folder: none is added, and none is removed."""
    changed = with_replacement({"HOME": "/", **given})
    assert changed == {"HOME": "/", VARIABLE: "1", "PYTHONPATH": path}
    assert with_replacement(changed) == changed
    assert without_replacement(changed) == {"HOME": "/", **{name: value for name, value in given.items() if value}}


def test_an_environment_without_the_hook_stays() -> None:
    given = {"PYTHONPATH": ":a:", "HOME": "/"}
    assert without_replacement(given) == given


def test_a_folder_that_cannot_stand_in_a_path_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "STARTUP_FOLDER", f"/a{os.pathsep}b")
    with pytest.raises(ValueError, match="PYTHONPATH separates folders by"):
        with_replacement({})
