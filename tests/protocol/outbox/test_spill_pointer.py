"""The files with which an outbox and its spill folder name each other."""

from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.protocol.outbox.spill_pointer import (
    ORIGIN_POINTER,
    SPILL_POINTER,
    is_part_of_outbox,
    read_spill_pointer,
    write_spill_pointer,
)


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
