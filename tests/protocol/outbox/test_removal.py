"""What the removal of a delivered outbox deletes, and what the removal keeps."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.outbox.destination import DESTINATION_NAMES, Destination, write_destination
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock
from tensorboard_sidecar.protocol.outbox.removal import remove_outbox, remove_spill
from tensorboard_sidecar.protocol.outbox.spill_pointer import SPILL_POINTER, is_part_of_outbox, write_spill_pointer

SEGMENT = f"{1:020d}.segment"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[OwnerLock, OwnerLock]]:
    """Return the locks of an outbox and of its spill folder."""
    with ExitStack() as locks:
        owners = []
        for name in ("outbox", "spill"):
            (tmp_path / "of-user" / name).mkdir(mode=0o700, parents=True)
            owners.append(OwnerLock(tmp_path / "of-user" / name, make=True))
            locks.callback(owners[-1].close)
            (owners[-1].folder / SEGMENT).touch()
        outbox, spill = owners
        write_destination(outbox.folder, Destination("tcp://127.0.0.1:5555", tmp_path, "key"))
        write_spill_pointer(outbox.folder, spill.folder)
        yield outbox, spill


def test_what_was_spilled_goes_and_may_be_gone_already(pair: tuple[OwnerLock, OwnerLock]) -> None:
    outbox, spill = pair
    for name in ("notes.txt", "half.new"):
        (spill.folder / name).touch()
    remove_spill(outbox.folder, spill)
    remove_spill(outbox.folder, spill)
    assert [path.name for path in spill.folder.iterdir()] == ["notes.txt"]
    assert not (outbox.folder / SPILL_POINTER).exists()
    assert (outbox.folder / SEGMENT).exists()


def test_an_outbox_goes_with_all_its_files(pair: tuple[OwnerLock, OwnerLock]) -> None:
    outbox, spill = pair
    remove_spill(outbox.folder, spill)
    remove_outbox(outbox)
    assert not outbox.folder.exists()
    assert not spill.folder.exists()


def test_records_go_first_and_the_owner_last(
    pair: tuple[OwnerLock, OwnerLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a kill in between could leave records without a destination, or without a lock."""
    outbox, _ = pair
    gone: list[str] = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda name, **where: (gone.append(name), unlink(name, **where)))
    remove_outbox(outbox)
    assert (gone[0], gone[-1]) == (SEGMENT, OWNER_LOCK)
    assert {*gone} == {SEGMENT, OWNER_LOCK, SPILL_POINTER, *DESTINATION_NAMES}


def test_what_cannot_be_deleted_keeps_nothing_else(pair: tuple[OwnerLock, OwnerLock]) -> None:
    """Otherwise the outbox would be found, and shipped, again and again."""
    outbox, _ = pair
    (outbox.folder / SEGMENT).unlink()
    (outbox.folder / SEGMENT).mkdir()
    remove_outbox(outbox)
    assert [path.name for path in outbox.folder.iterdir()] == [SEGMENT]


def test_a_spilled_part_that_nobody_names_any_more_is_one_by_itself(pair: tuple[OwnerLock, OwnerLock]) -> None:
    """A removal that is killed after the first step leaves no folder that cannot be found."""
    outbox, spill = pair
    assert is_part_of_outbox(spill.folder)
    (outbox.folder / SPILL_POINTER).unlink()
    assert not is_part_of_outbox(spill.folder)
    assert {path.name for path in spill.folder.iterdir()} >= {OWNER_LOCK, *DESTINATION_NAMES}


@pytest.mark.parametrize("swapped", ["spill", "."], ids=["the folder", "the one above"])
def test_a_link_that_took_the_place_of_a_folder_is_not_followed(
    pair: tuple[OwnerLock, OwnerLock], tmp_path: Path, swapped: str
) -> None:
    """On a volume that trainers share with a logger, one of them could have the logger delete its own journal."""
    outbox, spill = pair
    mine = tmp_path / "recordings"
    (mine / "spill").mkdir(parents=True)
    kept = {mine / name for name in (SEGMENT, OWNER_LOCK, f"spill/{SEGMENT}", f"spill/{OWNER_LOCK}")}
    for path in kept:
        path.touch()
    moved = (tmp_path / "of-user" / swapped).resolve()
    moved.rename(tmp_path / "away")
    moved.symlink_to(mine)
    remove_spill(outbox.folder, spill)
    remove_outbox(spill)
    assert {path for path in mine.rglob("*") if path.is_file()} == kept
