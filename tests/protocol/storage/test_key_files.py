"""Keys in files: private, whole, of the right kind, and never in an error."""

import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.logger.key_ring import KeyRing
from zmq.utils import z85

from tensorboard_sidecar.protocol.storage.key_files import (
    BadKey,
    ClientKeys,
    check_key,
    check_key_name,
    read_client_keys,
    read_public_key,
    read_secret_key,
    write_key_pair,
)

PUBLIC, SECRET = "0" * 40, "1" * 40


def write_pair(folder: Path) -> tuple[Path, Path]:
    return write_key_pair(folder / "keys", "box", public=PUBLIC, secret=SECRET)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_written_for_this_user_alone_and_read_back(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        public_path, secret_path = write_pair(tmp_path)
    finally:
        os.umask(old)
    assert (mode_of(secret_path), mode_of(secret_path.parent)) == (0o600, 0o700)
    assert read_public_key(public_path) == read_public_key(str(public_path)) == read_public_key(PUBLIC) == PUBLIC
    assert read_secret_key(secret_path) == SECRET


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    public_path, secret_path = write_pair(tmp_path)
    with pytest.raises(BadKey, match="exists and is not overwritten"):
        write_pair(tmp_path)
    secret_path.unlink()
    with pytest.raises(BadKey, match=r"box\.pub exists"):
        write_pair(tmp_path)
    public_path.unlink()
    public_path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadKey, match="exists and is not overwritten"):
        write_pair(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_others_may_enter_takes_no_keys(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    with pytest.raises(BadKey, match=r"open to others.*chmod 700"):
        write_pair(tmp_path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    _, secret_path = write_pair(tmp_path)
    secret_path.chmod(mode)
    with pytest.raises(BadKey, match=r"open to others.*chmod 600") as refused:
        read_secret_key(secret_path)
    assert SECRET not in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_secret_of_another_user_is_refused(tmp_path: Path) -> None:
    _, secret_path = write_pair(tmp_path)
    os.chown(secret_path, 12345, -1)
    with pytest.raises(BadKey, match="of user 12345 came"):
        read_secret_key(secret_path)


def test_links_pipes_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    _, secret_path = write_pair(tmp_path)
    link, pipe = tmp_path / "link.key", tmp_path / "pipe.key"
    link.symlink_to(secret_path)
    os.mkfifo(pipe, 0o600)
    with pytest.raises(BadKey, match="symbolic link is not followed"):
        read_secret_key(link)
    for path in (pipe, tmp_path):
        with pytest.raises(BadKey, match="is no key file"):
            read_secret_key(path)
    with pytest.raises(BadKey, match="No such file"):
        read_secret_key(tmp_path / "none.key")


def test_a_secret_key_is_not_taken_for_a_public_key(tmp_path: Path) -> None:
    public_path, secret_path = write_pair(tmp_path)
    public_path.chmod(0o600)
    with pytest.raises(BadKey, match=r"holds no secret key; give the file box\.key"):
        read_secret_key(public_path)
    with pytest.raises(BadKey, match=r"holds a secret key; give the public key, box\.pub") as refused:
        read_public_key(secret_path)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"", b"secret ", b"secret 123", b"\xff" * 40, b"secret " + b"~" * 40, b"x" * 10_000]
)
def test_a_secret_file_without_a_key_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "box.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadKey, match=r"box\.key") as refused:
        read_secret_key(path)
    assert "~" not in str(refused.value)


@given(st.binary(min_size=32, max_size=32))
def test_every_key_of_zeromq_is_taken(key: bytes) -> None:
    assert check_key(z85.encode(key).decode()) == z85.encode(key).decode()


@given(st.text(max_size=60) | st.text("#%01", min_size=40, max_size=40))
def test_a_text_that_is_no_key_is_refused(text: str) -> None:
    try:
        assert len(z85.decode(check_key(text))) == 32
    except BadKey:
        with pytest.raises(BadKey, match="characters"):
            check_key(text)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "-flag", "a b", "a\n", "ä", "a" * 65, "a\0"])
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(BadKey, match="expected at most 64 letters"):
        check_key_name(name)


def test_a_trainer_needs_both_keys_or_none(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    keys = ring.make_trainer()
    assert keys.server_public == ring.server_public
    assert read_client_keys(ring.server_public, str(ring.client_key())) == keys
    assert read_client_keys(None, None) is read_client_keys("", "") is None
    with pytest.raises(BadKey, match=r"client_key is not given.*keys create DIR --name NAME"):
        read_client_keys(ring.server_public, None)
    with pytest.raises(BadKey, match="server_key is not given"):
        read_client_keys(None, ring.client_key())


PASTED = "s//E.cr-Et:" + "k" * 29


@pytest.mark.parametrize("given", [PASTED, f" {PASTED}\n", f"secret {PASTED}", f"secret {PASTED}\n"])
def test_a_secret_that_was_given_in_place_of_its_file_is_not_repeated(given: str, tmp_path: Path) -> None:
    calls = [
        lambda: read_public_key(Path(given)),
        lambda: read_secret_key(Path(given)),
        lambda: read_client_keys(PUBLIC, given),
        lambda: read_client_keys(Path(given), tmp_path),
        lambda: check_key_name(given),
    ]
    for call in calls:
        with pytest.raises(BadKey) as refused:
            call()
        assert "kkkkkkkk" not in str(refused.value)
        assert "rEt" not in str(refused.value)


def test_the_words_of_a_secret_file_are_no_public_key_and_are_not_repeated() -> None:
    with pytest.raises(BadKey, match=r"looks like a key itself.*expected a \.pub file") as refused:
        read_public_key(f"secret {PASTED}")
    assert "kkkkkkkk" not in str(refused.value)


@pytest.mark.parametrize("path", ["keys/gpu-box.key", "/home/somebody/a_project/keys/gpu-box-12.key", "~/gpu-box.key"])
def test_a_path_that_leads_nowhere_is_named(path: str) -> None:
    for call in (read_secret_key, read_public_key):
        with pytest.raises(BadKey, match=re.escape(path)):
            call(Path(path))


def test_a_secret_key_is_not_in_the_repr() -> None:
    assert SECRET not in repr(ClientKeys(PUBLIC, SECRET))
