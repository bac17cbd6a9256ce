"""Deaths are simulated: an object that is dropped with its note in the file is a process that died."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tensorboard_sidecar.logger_service.projection.quarantine import (
    DEATHS_MAX,
    FILE_NAME,
    PATIENCE_SECONDS,
    SUSPECTS_MAX,
    Quarantine,
)

POISON = (b"\1" * 16, 7)
OTHER = (b"\2" * 16, 1)
Opened: TypeAlias = Callable[[], Quarantine]


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def opened(logdir: Path) -> Iterator[Opened]:
    """Open what is noted, as a process does when it starts."""
    all_of_them: list[Quarantine] = []

    def open_suspects() -> Quarantine:
        all_of_them.append(Quarantine())
        all_of_them[-1].open(logdir)
        return all_of_them[-1]

    yield open_suspects
    for suspects in all_of_them:
        suspects.close()


def die_at(logdir: Path, record: tuple[bytes, int]) -> None:
    """Leave the file as a process does that is killed while it shows a record."""
    suspects = Quarantine()
    suspects.open(logdir)
    with suspects.showing(record):
        noted = (logdir / FILE_NAME).read_bytes()
    suspects.close()
    (logdir / FILE_NAME).write_bytes(noted)


def test_a_record_is_fatal_after_the_third_death_at_it(logdir: Path, opened: Opened) -> None:
    for _ in range(DEATHS_MAX):
        assert not opened().is_fatal(POISON)
        die_at(logdir, POISON)
    assert opened().is_fatal(POISON)
    assert not opened().is_fatal(OTHER)


def test_deaths_are_remembered_while_other_records_are_shown_and_others_die(logdir: Path, opened: Opened) -> None:
    for number in range(DEATHS_MAX):
        die_at(logdir, POISON)
        suspects = opened()
        with suspects.showing((OTHER[0], number + 2)):
            pass
        die_at(logdir, OTHER)
    assert opened().is_fatal(POISON)
    assert opened().is_fatal(OTHER)


def test_a_record_that_is_shown_after_all_is_no_suspect_any_more(logdir: Path, opened: Opened) -> None:
    for _ in range(DEATHS_MAX - 1):
        die_at(logdir, POISON)
    suspects = opened()
    with suspects.showing(POISON):
        pass
    die_at(logdir, POISON)
    assert not opened().is_fatal(POISON)


def test_what_is_raised_is_a_death_unless_the_disk_is_to_blame_or_a_person(opened: Opened) -> None:
    suspects = opened()
    for error in (OSError(), KeyboardInterrupt(), MemoryError(), ValueError(), RecursionError()):
        assert not suspects.is_fatal(POISON)
        with pytest.raises(type(error)), suspects.showing(POISON):
            raise error
    assert suspects.is_fatal(POISON)


def test_a_process_that_ends_for_another_reason_leaves_no_suspect(logdir: Path, opened: Opened) -> None:
    suspects = opened()
    with suspects.showing(POISON):
        suspects.pardon()
        assert list(logdir.iterdir()) == []
    assert list(logdir.iterdir()) == []


def test_nothing_stays_in_the_log_directory_when_nobody_died(logdir: Path, opened: Opened) -> None:
    suspects = opened()
    with suspects.showing(OTHER):
        pass
    suspects.close()
    suspects.close()
    assert list(logdir.iterdir()) == []


def test_others_have_their_time_before_a_suspect_is_shown_again(logdir: Path, opened: Opened) -> None:
    die_at(logdir, POISON)
    suspects = opened()
    assert not suspects.has_to_wait(OTHER, 0.0)
    assert suspects.has_to_wait(POISON, 5.0)
    assert suspects.has_to_wait(POISON, 5.0 + PATIENCE_SECONDS - 0.1)
    assert not suspects.has_to_wait(POISON, 5.0 + PATIENCE_SECONDS)


def test_who_is_let_go_does_not_wait(logdir: Path, opened: Opened) -> None:
    die_at(logdir, POISON)
    suspects = opened()
    assert not suspects.let_go()
    assert suspects.has_to_wait(POISON, 5.0)
    assert suspects.let_go()
    assert not suspects.has_to_wait(POISON, 5.0)
    assert not suspects.let_go()


def test_a_fatal_record_keeps_nobody_waiting(logdir: Path, opened: Opened) -> None:
    for _ in range(DEATHS_MAX):
        die_at(logdir, POISON)
    suspects = opened()
    assert not suspects.has_to_wait(POISON, 0.0)
    suspects.clear(POISON)
    assert not opened().is_fatal(POISON)


def test_the_file_has_its_size_however_many_died(logdir: Path) -> None:
    for number in range(SUSPECTS_MAX + 3):
        die_at(logdir, (bytes(16), number))
    assert (logdir / FILE_NAME).stat().st_size == SUSPECTS_MAX * 32


@pytest.mark.parametrize("noted", [b"", b"x" * 31, b"x" * 5000, bytes(5000)])
def test_any_file_is_read_without_harm(logdir: Path, noted: bytes, opened: Opened) -> None:
    (logdir / FILE_NAME).write_bytes(noted)
    assert not opened().is_fatal(POISON)


def test_where_nothing_can_be_noted_all_goes_on(logdir: Path, opened: Opened) -> None:
    (logdir / FILE_NAME).symlink_to(logdir / "elsewhere")
    suspects = opened()
    with suspects.showing(POISON):
        pass
    suspects.close()
    assert [path.name for path in logdir.iterdir()] == [FILE_NAME]
