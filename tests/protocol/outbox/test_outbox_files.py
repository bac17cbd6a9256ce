"""Which logger an outbox is for; how an outbox and its spill folder name each other; what a removal deletes."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.outbox_files import (
    DESTINATION_NAMES,
    NO_LOGGER,
    ORIGIN_POINTER,
    SPILL_POINTER,
    Destination,
    is_elsewhere,
    is_for,
    is_part_of_outbox,
    read_destination,
    read_spill_pointer,
    remove_outbox,
    remove_spill,
    write_destination,
    write_spill_pointer,
)
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock


@pytest.mark.parametrize(
    "destination",
    [
        Destination(),
        Destination("tcp://127.0.0.1:5555"),
        Destination(NO_LOGGER, Path("/späte recordings\n")),
        Destination("tcp://logger:5555", Path("/a"), "public key"),
    ],
)
def test_what_was_written_is_read(tmp_path: Path, destination: Destination) -> None:
    assert read_destination(tmp_path) == Destination()
    write_destination(tmp_path, Destination("tcp://before:1", Path("/before"), "before"))
    write_destination(tmp_path, destination)
    assert read_destination(tmp_path) == destination


def test_what_is_for_nobody_any_more_is_settled() -> None:
    assert Destination(NO_LOGGER).settled
    assert not Destination().settled
    assert not Destination(NO_LOGGER, Path("/a")).settled


@pytest.mark.parametrize("name", DESTINATION_NAMES)
def test_rubbish_says_nothing(tmp_path: Path, name: str) -> None:
    for rubbish in (b"\xff\xfe", b"relative/path" if name == "record" else b"", b"/a\0b" if name == "record" else b""):
        (tmp_path / name).write_bytes(rubbish)
        assert read_destination(tmp_path) == Destination()
    (tmp_path / name).write_bytes(b"/" * 100_000)
    assert len(str(read_destination(tmp_path))) <= 5000
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/etc/hostname")
    assert read_destination(tmp_path) == Destination()
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    assert read_destination(tmp_path) == Destination()


@pytest.mark.parametrize(
    ("destination", "listening"),
    [
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("tcp://localhost:5555", "tcp://127.0.0.1:5555"),
        ("tcp://[::1]:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://0.0.0.0:5555"),
        ("tcp://localhost:5555", "tcp://[::]:5555"),
        ("tcp://10.0.0.7:5555", "tcp://10.0.0.7:5555"),
        ("ipc:///run/logger", "ipc:///run/logger"),
    ],
)
def test_it_is_for_who_is_reached_there(destination: str, listening: str) -> None:
    assert is_for(destination, listening)


@pytest.mark.parametrize(
    ("destination", "listening"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5556", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://0.0.0.0:5555"),
        ("tcp://logger:5555", "tcp://[::]:5555"),
        ("tcp://10.0.0.7:5555", "tcp://*:5555"),
        ("tcp://logger:5555", "tcp://127.0.0.1:5555"),
        ("tcp://127.0.0.1:5555", "tcp://10.0.0.7:5555"),
        ("ipc:///run/logger", "ipc:///run/other"),
        ("ipc:///run/logger", "tcp://127.0.0.1:5555"),
        ("rubbish", "tcp://127.0.0.1:5555"),
        (NO_LOGGER, "tcp://0.0.0.0:5555"),
        ("", "tcp://0.0.0.0:5555"),
    ],
)
def test_it_is_for_another(destination: str, listening: str) -> None:
    assert not is_for(destination, listening)


def test_who_listens_everywhere_is_reached_at_what_is_this_machine() -> None:
    """Another machine has a logger of its own at the same port."""

    def is_own_host(host: str) -> bool:
        return host in ("10.0.0.7", "fd00::7", "box")

    for destination in ("tcp://10.0.0.7:5555", "tcp://[fd00::7]:5555", "tcp://box:5555", "tcp://127.0.0.1:5555"):
        assert is_for(destination, "tcp://0.0.0.0:5555", is_own_host)
    assert not is_for("tcp://other-box:5555", "tcp://0.0.0.0:5555", is_own_host)
    assert not is_for("tcp://box:5556", "tcp://0.0.0.0:5555", is_own_host)
    assert not is_for("tcp://box:5555", "tcp://127.0.0.1:5555", is_own_host)


def test_what_is_elsewhere() -> None:
    assert is_elsewhere("tcp://logger:5555")
    assert is_elsewhere("tcp://10.0.0.7:5555")
    assert not any(map(is_elsewhere, ("tcp://127.0.0.1:1", "tcp://localhost:1", "ipc:///run/logger", "rubbish", "")))


def test_a_logger_is_found_by_its_socket_however_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers write down the whole path: they may change their working folder."""
    monkeypatch.chdir(tmp_path)
    assert is_for(f"ipc://{tmp_path}/logger/socket", "ipc://logger/socket")
    assert not is_for(f"ipc://{tmp_path}/other/socket", "ipc://logger/socket")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Return the folders of an outbox and of its spilled segments."""
    outbox, spill = tmp_path / "outbox", tmp_path / "späte spill"
    for folder in (outbox, spill):
        folder.mkdir(mode=0o700)
        (folder / OWNER_LOCK).touch()
    return outbox, spill


def test_both_name_each_other(pair: tuple[Path, Path]) -> None:
    outbox, spill = pair
    assert read_spill_pointer(outbox) is None
    assert not is_part_of_outbox(spill)
    write_spill_pointer(outbox, spill)
    assert read_spill_pointer(outbox) == spill
    assert is_part_of_outbox(spill)
    assert not is_part_of_outbox(outbox)


def test_a_part_is_one_only_while_its_outbox_says_so(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outbox, spill = pair
    write_spill_pointer(outbox, spill)
    (outbox / SPILL_POINTER).unlink()
    assert not is_part_of_outbox(spill), "killed between the two files, or given up"
    (outbox / SPILL_POINTER).write_bytes(bytes(tmp_path / "another"))
    assert not is_part_of_outbox(spill)


@pytest.mark.parametrize("named", [b"", b"relative/path", b"/a\0b", b"\xff\xfe", b"\0" * 5000])
def test_rubbish_is_refused(pair: tuple[Path, Path], named: bytes) -> None:
    outbox, spill = pair
    (outbox / SPILL_POINTER).write_bytes(named)
    with pytest.raises(Malformed, match="expected the path"):
        read_spill_pointer(outbox)
    (spill / ORIGIN_POINTER).write_bytes(named)
    assert not is_part_of_outbox(spill)


@pytest.mark.parametrize("named", [b"/nowhere/at/all", b"/" + b"x" * 5000, b"/etc"])
def test_a_folder_that_is_none_is_not_there(pair: tuple[Path, Path], named: bytes) -> None:
    outbox, _ = pair
    (outbox / SPILL_POINTER).write_bytes(named)
    with pytest.raises(OSError, match=r"not there|too long"):
        read_spill_pointer(outbox)


def test_a_link_is_not_followed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    outbox, spill = pair
    (tmp_path / "text").write_bytes(bytes(spill))
    (outbox / SPILL_POINTER).symlink_to(tmp_path / "text")
    with pytest.raises(OSError, match="symbolic"):
        read_spill_pointer(outbox)


def test_a_folder_that_others_can_write_to_is_refused(pair: tuple[Path, Path]) -> None:
    outbox, spill = pair
    write_spill_pointer(outbox, spill)
    spill.chmod(0o770)
    with pytest.raises(PermissionError, match="not a private folder"):
        read_spill_pointer(outbox)


SEGMENT = f"{1:020d}.segment"


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[tuple[OwnerLock, OwnerLock]]:
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


def test_what_was_spilled_goes_and_may_be_gone_already(owners: tuple[OwnerLock, OwnerLock]) -> None:
    outbox, spill = owners
    for name in ("notes.txt", "half.new"):
        (spill.folder / name).touch()
    remove_spill(outbox.folder, spill)
    remove_spill(outbox.folder, spill)
    assert [path.name for path in spill.folder.iterdir()] == ["notes.txt"]
    assert not (outbox.folder / SPILL_POINTER).exists()
    assert (outbox.folder / SEGMENT).exists()


def test_an_outbox_goes_with_all_its_files(owners: tuple[OwnerLock, OwnerLock]) -> None:
    outbox, spill = owners
    remove_spill(outbox.folder, spill)
    remove_outbox(outbox)
    assert not outbox.folder.exists()
    assert not spill.folder.exists()


def test_records_go_first_and_the_owner_last(
    owners: tuple[OwnerLock, OwnerLock], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a kill in between could leave records without a destination, or without a lock."""
    outbox, _ = owners
    gone: list[str] = []
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda name, **where: (gone.append(name), unlink(name, **where)))
    remove_outbox(outbox)
    assert (gone[0], gone[-1]) == (SEGMENT, OWNER_LOCK)
    assert {*gone} == {SEGMENT, OWNER_LOCK, SPILL_POINTER, *DESTINATION_NAMES}


def test_what_cannot_be_deleted_keeps_nothing_else(owners: tuple[OwnerLock, OwnerLock]) -> None:
    """Otherwise the outbox would be found, and shipped, again and again."""
    outbox, _ = owners
    (outbox.folder / SEGMENT).unlink()
    (outbox.folder / SEGMENT).mkdir()
    remove_outbox(outbox)
    assert [path.name for path in outbox.folder.iterdir()] == [SEGMENT]


def test_a_spilled_part_that_nobody_names_any_more_is_one_by_itself(owners: tuple[OwnerLock, OwnerLock]) -> None:
    """A removal that is killed after the first step leaves no folder that cannot be found."""
    outbox, spill = owners
    assert is_part_of_outbox(spill.folder)
    (outbox.folder / SPILL_POINTER).unlink()
    assert not is_part_of_outbox(spill.folder)
    assert {path.name for path in spill.folder.iterdir()} >= {OWNER_LOCK, *DESTINATION_NAMES}


@pytest.mark.parametrize("swapped", ["spill", "."], ids=["the folder", "the one above"])
def test_a_link_that_took_the_place_of_a_folder_is_not_followed(
    owners: tuple[OwnerLock, OwnerLock], tmp_path: Path, swapped: str
) -> None:
    """On a volume that trainers share with a logger, one of them could have the logger delete its own journal."""
    outbox, spill = owners
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
