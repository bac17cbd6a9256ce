"""CurveZMQ keys in files: secret keys are written privately, and read only while the file is still private.

A key is 32 bytes, written as 40 characters of Z85 (rfc.zeromq.org/spec/32). ``NAME.pub`` holds a public key and nothing
else, for ``cat`` and copying. ``NAME.key`` holds the word ``secret`` and the secret key, so that nobody mistakes a
secret key for a public key. A secret key never appears in an argument, the environment, a log or an error.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.limits import KEY_FILE_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.storage.durable import opened

KEY_CHARACTERS: Final = 40
SECRET_SUFFIX: Final = ".key"  # noqa: S105 - a file name
PUBLIC_SUFFIX: Final = ".pub"
SERVER_NAME: Final = "server"

_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# pathlib removes a character where two slashes meet: a key given as a path may be shorter than a key.
_KEY_LIKE_CHARACTERS: Final = range(KEY_CHARACTERS - 4, KEY_CHARACTERS + 1)
_SECRET_WORD: Final = "secret "  # noqa: S105 - a word
# O_NONBLOCK: opening a named pipe does not wait. O_NOFOLLOW: a symbolic link is refused.
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class BadKey(ProtocolError):
    """A key, its name or its file cannot be used. The message names the file and never contains a secret key."""


class NoKeyFile(BadKey):
    """The file does not exist, or no longer exists."""


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The keys of a trainer, as Z85 text: the public key of the logger and the secret key of the trainer."""

    server_public: str
    client_secret: str = field(repr=False)


def check_key(text: str) -> str:
    """Return ``text`` if ``text`` is a key in Z85. Raises BadKey without the text, which may be a secret key."""
    if len(text) != KEY_CHARACTERS or not set(text) <= set(_Z85):
        raise BadKey(f"{len(text)} characters; expected a key: {KEY_CHARACTERS} characters of Z85")
    for start in range(0, KEY_CHARACTERS, 5):
        number = 0
        for character in text[start : start + 5]:
            number = 85 * number + _Z85.index(character)
        if number >= 2**32:
            raise BadKey("the characters are Z85, but no key (a typing error?); copy the key again")
    return text


def check_key_name(name: str) -> str:
    """Return ``name`` if ``name`` is a plain file name, for a key or its owner. Raises BadKey."""
    if not _NAME.fullmatch(name):
        raise BadKey(
            f"name {_shown(name)!r:.120}; expected at most 64 letters, digits, dots, dashes and underscores,"
            " the first of them a letter or a digit"
        )
    return name


def read_public_key(source: str | Path) -> str:
    """Return a public key, given the key or its file. Raises BadKey."""
    path = Path(source)
    if not os.path.lexists(path):
        if isinstance(source, str) and len(source) == KEY_CHARACTERS:
            return check_key(source)
        raise NoKeyFile(
            f"{_shown(source)}: no such file; expected a .pub file or the {KEY_CHARACTERS} characters in it"
        )
    text = _read(path, secret=False)
    if text.startswith(_SECRET_WORD):
        raise BadKey(f"{path} holds a secret key; give the public key, {path.with_suffix(PUBLIC_SUFFIX).name}")
    return _check_content(text, path)


def read_secret_key(path: Path) -> str:
    """Return the secret key in a file that only this user can read. Raises BadKey."""
    text = _read(path, secret=True)
    if not text.startswith(_SECRET_WORD):
        raise BadKey(f"{path} holds no secret key; give the file {path.with_suffix(SECRET_SUFFIX).name}")
    return _check_content(text.removeprefix(_SECRET_WORD), path)


def read_client_keys(server_key: str | Path | None, client_key: str | Path | None) -> ClientKeys | None:
    """Return a trainer's keys, None when no key is given. Raises BadKey when one of two is given, or cannot be used."""
    if not server_key and not client_key:
        return None
    if not server_key or not client_key:
        missing, key = ("client_key", "its own secret key") if server_key else ("server_key", "the logger's public key")
        raise BadKey(f"{missing} is not given; a trainer with keys needs {key} as well. {how_to_get_keys()}")
    return ClientKeys(read_public_key(server_key), read_secret_key(Path(client_key)))


def how_to_get_keys() -> str:
    """Return the commands that make and allow a trainer's keys."""
    return (
        "Make a pair with: tensorboard-sidecar keys create DIR --name NAME; allow the pair at the logger with: "
        "keys allow NAME PUBLIC_KEY --keys DIR; then give --server_key server.pub --client_key NAME.key"
    )


def write_key_pair(folder: Path, name: str, *, public: str, secret: str) -> tuple[Path, Path]:
    """Write a key pair into a private folder; return the file of the public key and the file of the secret key.

    A missing folder is made. Raises BadKey when a file exists or other users can enter the folder, OSError.
    """
    check_key_name(name)
    make_private_folder(folder)
    public_path, secret_path = folder / (name + PUBLIC_SUFFIX), folder / (name + SECRET_SUFFIX)
    for path in (public_path, secret_path):
        if os.path.lexists(path):
            raise BadKey(
                f"{path} exists and is not overwritten: peers that know the old key could no longer connect; give"
                " another --name, or another folder, or remove both files first"
            )
    _write(secret_path, f"{_SECRET_WORD}{check_key(secret)}\n", 0o600)
    _write(public_path, f"{check_key(public)}\n", 0o644)
    return public_path, secret_path


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user can enter, or check an existing folder. Raises BadKey, OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """Raise BadKey for a folder that other users can enter, OSError when there is no folder."""
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BadKey(
            f"{folder} is open to others; expected a folder of user {os.geteuid()} with mode 0700"
            f" (mode 0{stat.S_IMODE(found.st_mode):o} of user {found.st_uid} came): chmod 700 {folder}"
        )


def _shown(source: str | Path) -> str:
    """Return a name or path for an error message; a text that looks like a key is not repeated, it may be secret."""
    text = str(source).strip()
    if text.startswith(_SECRET_WORD) or (len(text) in _KEY_LIKE_CHARACTERS and set(text) <= set(_Z85)):
        return "(the argument looks like a key itself and is not repeated; give the file that holds the key)"
    return text[:200]


def _read(path: Path, *, secret: bool) -> str:
    try:
        file = os.open(path, _READ_FLAGS)
    except OSError as error:
        link = " (a symbolic link is not followed)" if path.is_symlink() else ""
        kind = NoKeyFile if isinstance(error, FileNotFoundError) else BadKey
        raise kind(f"{_shown(path)} cannot be read: {error.strerror}{link}") from None
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_size > KEY_FILE_SIZE_MAX_BYTES:
            raise BadKey(f"{path} is no key file; expected one made by: tensorboard-sidecar keys create DIR")
        if secret and (found.st_uid != os.geteuid() or found.st_mode & 0o077):
            raise BadKey(
                f"{path} is open to others; expected a file of user {os.geteuid()} with mode 0600"
                f" (mode 0{stat.S_IMODE(found.st_mode):o} of user {found.st_uid} came): chmod 600 {path}, and make"
                " a new key if somebody may have read this one"
            )
        return os.read(file, KEY_FILE_SIZE_MAX_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(file)


def _check_content(text: str, path: Path) -> str:
    try:
        return check_key(text)
    except BadKey as error:
        raise BadKey(f"{path}: {error}") from None


def _write(path: Path, text: str, mode: int) -> None:
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode) as file:
        os.write(file, text.encode())
        os.fsync(file)
