"""Whose a stream is, on disk."""

from pathlib import Path

import pytest

from logger_service.stream_owner import OWNER_NAME, NotItsOwner, check_owner, note_owner
from protocol.keys import BadKey


def test_the_first_key_owns_what_nobody_owned(tmp_path: Path) -> None:
    check_owner(tmp_path, "box", "")
    assert (tmp_path / OWNER_NAME).read_text() == "box"
    check_owner(tmp_path, "box", "")
    with pytest.raises(NotItsOwner, match="that of key box, not of other; only box"):
        check_owner(tmp_path, "other", "")


def test_a_stream_that_is_open_and_has_no_folder_has_its_owner_too(tmp_path: Path) -> None:
    with pytest.raises(NotItsOwner):
        check_owner(tmp_path / "none", "other", "box")
    check_owner(tmp_path / "none", "box", "box")
    assert not (tmp_path / "none").exists()


def test_without_keys_nothing_is_written_and_everybody_may(tmp_path: Path) -> None:
    note_owner(tmp_path, "")
    check_owner(tmp_path, "", "box")
    assert list(tmp_path.iterdir()) == []


def test_an_owner_is_not_written_over_and_no_link_is_followed(tmp_path: Path) -> None:
    note_owner(tmp_path, "box")
    note_owner(tmp_path, "other")
    assert (tmp_path / OWNER_NAME).read_text() == "box"
    (tmp_path / OWNER_NAME).unlink()
    (tmp_path / OWNER_NAME).symlink_to(tmp_path / "elsewhere")
    note_owner(tmp_path, "other")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(NotItsOwner, match="cannot be read"):
        check_owner(tmp_path, "other", "")


@pytest.mark.parametrize("rubbish", [b"../up", b"\xff", b"x" * 200, b"a b"])
def test_a_file_that_names_nobody_lets_nobody_in(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / OWNER_NAME).write_bytes(rubbish)
    with pytest.raises(BadKey):
        check_owner(tmp_path, "box", "")
