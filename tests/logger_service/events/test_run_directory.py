from pathlib import Path

import pytest
from support.recordings import make_stream

from tensorboard_sidecar.logger_service.events.run_directory import inside, run_directory


def test_rank_zero_writes_in_the_run_and_others_in_a_folder_each(tmp_path: Path) -> None:
    assert run_directory(tmp_path, make_stream("team/first")) == tmp_path / "team" / "first"
    assert run_directory(tmp_path, make_stream("team/first", rank=3)) == tmp_path / "team" / "first" / "rank-3"


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
