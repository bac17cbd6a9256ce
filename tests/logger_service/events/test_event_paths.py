"""Folders, file names, and the order of attempts."""

from itertools import permutations
from pathlib import Path

import pytest
from support.records.recordings import make_stream

from tensorboard_sidecar.logger_service.events.event_paths import (
    Attempt,
    EventFileName,
    in_order,
    inside,
    is_row,
    late_directory,
    names_in,
    next_name,
    own_names_in,
    row_name,
    rows_in,
    run_directory,
)


def test_rank_zero_writes_in_the_run_and_others_in_a_folder_each(tmp_path: Path) -> None:
    assert run_directory(tmp_path, make_stream("team/first")) == tmp_path / "team" / "first"
    assert run_directory(tmp_path, make_stream("team/first", rank=3)) == tmp_path / "team" / "first" / "rank-3"


def test_a_set_of_hyperparameters_has_a_folder_in_the_folder_of_its_stream(tmp_path: Path) -> None:
    row = row_name(bytes(range(6)))
    assert row == "hparams-000102030405"
    stream = make_stream("team/first", rank=3, attempt=2)
    assert run_directory(tmp_path, stream, row) == tmp_path / "team" / "first" / "rank-3" / row
    late = late_directory(tmp_path, stream, 1, row)
    assert late == tmp_path / "team" / "first" / "rank-3" / row / "attempt-2"
    assert is_row(late)
    assert is_row(late.parent)
    assert not any(map(is_row, (late.parent.parent, late / "other", tmp_path / "hparams-0" / "attempt-2")))


def test_folders_of_hyperparameters_are_counted_and_no_others(tmp_path: Path) -> None:
    assert rows_in(tmp_path / "missing") == 0
    for name in ("hparams-000102030405", "hparams-0a0b0c0d0e0f", "hparams-1", "hparams", "rank-1", "attempt-0"):
        (tmp_path / name).mkdir()
    assert rows_in(tmp_path) == 2


def test_nothing_is_made(tmp_path: Path) -> None:
    run_directory(tmp_path, make_stream("team/first"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("linked", ["team", "team/first", "team/first/rank-1"])
def test_a_link_out_of_the_log_directory_is_refused(tmp_path: Path, linked: str) -> None:
    logdir, outside = tmp_path / "log", tmp_path / "outside"
    outside.mkdir()
    link = logdir / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(PermissionError, match="outside"):
        run_directory(logdir, make_stream("team/first", rank=1))


def test_a_log_directory_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "log").symlink_to(tmp_path / "disk")
    assert run_directory(tmp_path / "log", make_stream()) == tmp_path / "log" / "demo"


def test_a_path_upwards_is_not_inside(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        inside(tmp_path / "log", tmp_path / "log" / ".." / "other")


def test_links_in_a_circle_are_a_fault_of_the_disk_when_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to("demo")
    with pytest.raises(OSError, match=r"demo"):
        run_directory(tmp_path, make_stream()).mkdir(parents=True)


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
    """The next name would have eleven digits, and sort before all others."""
    with pytest.raises(FileExistsError, match=f"{name}.* move that file away"):
        following(tmp_path, name)


def test_folders_are_no_event_files(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}9999999999.x").mkdir()
    (tmp_path / NAME).mkdir()
    assert names_in(tmp_path) == []
    assert following(tmp_path) == NAME


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert own_names_in(tmp_path / "demo") == []


@pytest.mark.parametrize(
    "attempts",
    [
        [(0, 0), (10, 1), (20, 2)],
        [(0, 0), (10, 1), (20, 0), (30, 1)],
        [(0, 0), (10, 0), (20, 0)],
        [(600, 0), (300, 1), (310, 2)],
        [(0, 0), (86_400, 1), (-86_400, 2)],
        [(0, 0), (0, 0), (0, 1)],
        [(5, 1), (3, 2)],
        [(0, 1), (10, 0)],
        [(0, 1), (10, 2), (20, 0), (30, 1)],
        [],
    ],
    ids=[
        "a run that is resumed twice",
        "a fresh start under the name of a resumed run",
        "fresh starts alone",
        "a first attempt whose clock was ahead",
        "clocks that are wrong by a day",
        "all at once",
        "no first attempt, and a clock that went back",
        "a fresh start behind a resumed run that began elsewhere",
        "the same with more of them",
        "none",
    ],
)
def test_attempts_follow_each_other(attempts: list[tuple[float, int]]) -> None:
    """In any order of the input; the logger saw the attempts one after the other."""
    ordered = [Attempt(start, number, f"{place:08x}", place) for place, (start, number) in enumerate(attempts)]
    for found in permutations(ordered):
        assert in_order(found) == ordered


def test_what_is_shipped_late_has_its_place_all_the_same() -> None:
    """The order in which the logger saw the attempts does not matter here."""
    first, second = Attempt(0, 0, "a", 2), Attempt(10, 1, "b", 1)
    assert in_order([second, first]) == [first, second]


def test_where_nothing_tells_more_clocks_decide() -> None:
    """Recordings that trainers wrote themselves: nobody saw them all."""
    resumed, fresh = Attempt(0, 1, "a", 0), Attempt(10, 0, "b", 10)
    assert in_order([fresh, resumed]) == [resumed, fresh]
