"""The list of allowed keys: files of its owner count; a list that other users can write counts as empty."""

import os
import threading
from pathlib import Path

import pytest
from support.machine.waiting import wait_until

from tensorboard_sidecar.logger_service.access.allow_list import ALLOWED_NAME, AllowList, allow, read_allowed, revoke
from tensorboard_sidecar.logger_service.access.authenticator import make_key_pair
from tensorboard_sidecar.logger_service.limits import ALLOWED_KEYS_MAX
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.storage.key_files import BadKey

KEY, OTHER = make_key_pair()[0], make_key_pair()[0]


def names_of(keys: Path) -> dict[str, str]:
    """Return the list as a new logger sees it."""
    allowed = AllowList(keys)
    allowed.refresh(0.0)
    return {name: key for key in (KEY, OTHER) if (name := allowed.name_of(key)) is not None}


def test_a_key_is_on_the_list_until_it_is_revoked(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    path = allow(keys, "box", KEY)
    assert path.read_text() == f"{KEY}\n"
    assert names_of(keys) == {"box": KEY}
    allow(keys, "box", KEY)
    allow(keys, "two", OTHER)
    assert names_of(keys) == {"box": KEY, "two": OTHER}
    revoke(keys, "box")
    assert names_of(keys) == {"two": OTHER}
    with pytest.raises(BadKey, match="box is not on the list"):
        revoke(keys, "box")


def test_an_empty_list_says_how_to_let_somebody_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    allow(tmp_path / "keys", "box", KEY)
    revoke(tmp_path / "keys", "box")
    assert names_of(tmp_path / "keys") == {}
    assert f"keys allow NAME PUBLIC_KEY --keys {tmp_path / 'keys'}" in caplog.text


def test_one_key_has_one_name_and_one_name_one_key(tmp_path: Path) -> None:
    allow(tmp_path / "keys", "box", KEY)
    with pytest.raises(BadKey, match="allowed already, as box"):
        allow(tmp_path / "keys", "two", KEY)
    with pytest.raises(BadKey, match=r"with another key.*keys revoke box"):
        allow(tmp_path / "keys", "box", OTHER)
    assert names_of(tmp_path / "keys") == {"box": KEY}


@pytest.mark.parametrize("name", ["../server", "a/b", ".hidden", ""])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    allow(tmp_path / "keys", "box", KEY)
    for command in (lambda: allow(tmp_path / "keys", name, OTHER), lambda: revoke(tmp_path / "keys", name)):
        with pytest.raises(BadKey, match="expected at most 64 letters"):
            command()
    assert [path.name for path in (tmp_path / "keys").iterdir()] == [ALLOWED_NAME]


def test_a_running_logger_reads_a_change_at_once(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    allow(keys, "box", KEY)
    allowed = AllowList(keys)
    allowed.refresh(0.0)
    allow(keys, "two", OTHER)
    allowed.refresh(0.0)
    assert allowed.name_of(OTHER) == "two"
    revoke(keys, "box")
    allowed.refresh(0.0)
    assert allowed.name_of(KEY) is None


def test_a_file_that_is_written_over_counts_within_a_second(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    path = allow(keys, "box", KEY)
    allowed = AllowList(keys)
    allowed.refresh(0.0)
    path.write_text(OTHER)
    allowed.refresh(1.0)
    assert (allowed.name_of(KEY), allowed.name_of(OTHER)) == (None, "box")


def test_files_without_a_key_are_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = tmp_path / "keys"
    folder = allow(keys, "box", KEY).parent
    (folder / "rubbish").write_bytes(b"\xff" * 40)
    (folder / "bad name").write_text(OTHER)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / ".two.new").write_text(OTHER)
    assert names_of(keys) == {"box": KEY}
    assert len(read_allowed(folder)[1]) == 5
    assert "left out" in caplog.text


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_list_that_others_can_write_is_empty(tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    folder = allow(tmp_path / "keys", "box", KEY).parent
    folder.chmod(mode)
    assert names_of(tmp_path / "keys") == {}
    assert "no key is allowed" in caplog.text


def test_a_list_that_is_gone_or_no_folder_is_empty(tmp_path: Path) -> None:
    assert names_of(tmp_path) == {}
    (tmp_path / ALLOWED_NAME).write_text(KEY)
    assert names_of(tmp_path) == {}


def test_a_list_too_long_is_refused_and_counts_as_empty(tmp_path: Path) -> None:
    folder = allow(tmp_path / "keys", "box", KEY).parent
    for number in range(ALLOWED_KEYS_MAX):
        (folder / f"key-{number}").touch()
    assert names_of(tmp_path / "keys") == {}
    with pytest.raises(TooLarge, match="allowed keys"):
        allow(tmp_path / "keys", "two", OTHER)


def test_a_list_is_whole_while_it_changes(tmp_path: Path) -> None:
    """A reader sees a new key or does not; never half a key, and the other keys are always there."""
    keys = tmp_path / "keys"
    allow(keys, "box", KEY)
    done = threading.Event()
    seen: list[bool] = []

    def read() -> None:
        while not done.is_set():
            allowed, complaints = read_allowed(keys / ALLOWED_NAME)
            seen.append(KEY in allowed and not complaints)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(50):
            allow(keys, "two", OTHER)
            revoke(keys, "two")
        wait_until(lambda: len(seen) > 10)
    finally:
        done.set()
        reader.join()
    assert all(seen)
