import fcntl
import os
from pathlib import Path

import pytest
from support.machine.children import fork

from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock, read_owner


def test_a_lock_has_one_holder_at_a_time(memory: Path) -> None:
    first = OwnerLock(memory, make=True)
    with pytest.raises(BlockingIOError):
        OwnerLock(memory)
    first.close()
    OwnerLock(memory).close()


def test_a_lock_is_made_only_when_asked_for(memory: Path) -> None:
    """A search for orphans must not create a lock in a folder whose outbox has just been deleted."""
    with pytest.raises(FileNotFoundError):
        OwnerLock(memory)
    assert list(memory.iterdir()) == []


def test_a_lock_is_no_link_to_somewhere_else(memory: Path, tmp_path: Path) -> None:
    (memory / OWNER_LOCK).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        OwnerLock(memory, make=True)
    with pytest.raises(OSError, match="symbolic"):
        OwnerLock(memory)
    assert not (tmp_path / "elsewhere").exists()


def test_what_was_given_is_known_to_the_next_holder(memory: Path) -> None:
    first = OwnerLock(memory, make=True)
    assert first.given_sequence == 0
    first.give(41)
    first.give(2**60)
    first.close()
    second = OwnerLock(memory)
    assert second.given_sequence == 2**60 + 1
    second.close()


def test_a_child_that_lets_go_leaves_the_lock_to_its_parent(memory: Path) -> None:
    lock = OwnerLock(memory, make=True)
    assert fork(lock.close) == 0
    with pytest.raises(BlockingIOError):
        OwnerLock(memory)
    lock.close()


def test_a_lock_goes_with_the_process_that_held_it(memory: Path) -> None:
    assert fork(lambda: OwnerLock(memory, make=True).give(3)) == 0
    lock = OwnerLock(memory)
    assert lock.given_sequence == 4
    lock.close()


def test_who_holds_a_lock_is_told_without_taking_it(memory: Path) -> None:
    lock = OwnerLock(memory, make=True)
    lock.give(6)
    assert read_owner(memory) == (os.getpid(), 7, True)
    lock.close()
    assert read_owner(memory) == (os.getpid(), 7, False)
    assert fork(lambda: OwnerLock(memory).close()) == 0
    assert read_owner(memory).process_id != os.getpid()
    OwnerLock(memory).close()


def test_a_lock_of_an_older_program_or_none_at_all_has_no_known_owner(memory: Path) -> None:
    (memory / OWNER_LOCK).write_bytes(b"")
    assert read_owner(memory) == (0, 0, False)
    (memory / OWNER_LOCK).unlink()
    with pytest.raises(FileNotFoundError):
        read_owner(memory)


def test_a_lock_that_was_deleted_meanwhile_is_none(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The previous owner has delivered the outbox. The lock of a deleted file protects nothing."""
    OwnerLock(memory, make=True).close()
    flock = fcntl.flock

    def delete_first(file: int, operation: int) -> None:
        (memory / OWNER_LOCK).unlink()
        (memory / OWNER_LOCK).touch()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", delete_first)
    with pytest.raises(FileNotFoundError):
        OwnerLock(memory)
