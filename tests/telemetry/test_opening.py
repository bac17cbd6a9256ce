"""Where a ``SummaryWriter`` writes to: its folder, and the run that a logger of the user's own shows."""

from pathlib import Path

import pytest

from tensorboard_sidecar.telemetry.opening import _make_folder, _run_below, absolute


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("runs", "/here/runs"),
        ("./runs/", "/here/runs"),
        ("../runs", "/runs"),
        ("/a/./b/../c//d", "/a/c/d"),
        ("", "/here"),
    ],
)
def test_a_path_is_absolute_and_without_dots(given: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getcwd", lambda: "/here")
    assert absolute(given) == Path(expected)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    assert absolute(tmp_path / "link") == tmp_path / "link"


@pytest.mark.parametrize(
    ("folder", "run"),
    [
        ("/here/runs/a", "runs/a"),
        ("/elsewhere/a", "a"),
        ("/here", "here"),
        ("/", "run"),
        ("/hereabouts/a", "a"),
    ],
)
def test_a_logger_shows_the_folder_below_the_working_folder_by_its_path(folder: str, run: str) -> None:
    assert _run_below(Path("/here"), Path(folder)) == run


def test_a_file_in_the_way_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as raised:
        _make_folder(tmp_path / "file")
    assert raised.value.filename == str(tmp_path / "file")
    _make_folder(tmp_path / "a" / "b")
    _make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
