from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.events.event_names import EventFileName, names_in, next_name, own_names_in

PREFIX = "events.out.tfevents."
NAME = f"{PREFIX}1700000000.0000.00010203.0000"


def following(directory: Path, *names: str, seconds: int = 1_700_000_000) -> str:
    """Return the name that comes after others."""
    for name in names:
        (directory / name).touch()
    found = str(next_name(directory, 0, "00010203", seconds * 10**9))
    assert all(name < found for name in names)
    return found


def test_a_name_is_read_as_it_was_written() -> None:
    name = EventFileName(1_700_000_000, 2, "00010203", 7)
    assert str(name) == f"{PREFIX}1700000000.0002.00010203.0007"
    assert EventFileName.parse(str(name)) == name


@pytest.mark.parametrize("name", [f"{PREFIX}1700000000.host.1.0", f"{NAME}.profile", "x", f"{PREFIX}1"])
def test_names_of_other_programs_are_not_ours(name: str) -> None:
    assert EventFileName.parse(name) is None


def test_a_counter_that_has_a_digit_more_sorts_behind_all_the_same(tmp_path: Path) -> None:
    """Ten thousand restarts: 10000 alone would sort before 9999."""
    nine = f"{PREFIX}1700000000.0000.00010203.9999"
    ten = following(tmp_path, nine)
    assert ten == f"{PREFIX}1700000001.0000.00010203.10000"
    assert following(tmp_path, nine, ten) == f"{PREFIX}1700000001.0000.00010203.10001"
    assert [name.counter for name in own_names_in(tmp_path)] == [9999, 10000]


@pytest.mark.parametrize("name", [f"{PREFIX}9999999999.x", f"{PREFIX}9999999999.host.1.0"])
def test_where_no_name_sorts_behind_none_is_given(tmp_path: Path, name: str) -> None:
    """It would have eleven digits, and sort before all others."""
    with pytest.raises(FileExistsError, match=f"{name}.* move that file away"):
        following(tmp_path, name)


def test_folders_are_no_event_files(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}9999999999.x").mkdir()
    (tmp_path / NAME).mkdir()
    assert names_in(tmp_path) == []
    assert following(tmp_path) == NAME


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert own_names_in(tmp_path / "demo") == []
