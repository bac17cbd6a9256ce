"""CurveZMQ keys in files: secrets are made private, and read only when they still are.

A key is 32 bytes, written as 40 characters of Z85 (rfc.zeromq.org/spec/32). ``NAME.pub`` holds a public key, so that
``cat`` shows what to hand out; ``NAME.key`` holds the word ``secret`` and the secret key, so that neither can be taken
for the other. A secret never stands in an argument, in the environment, in a log or in an error.
"""

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.limits import KEY_FILE_SIZE_MAX_BYTES

KEY_CHARACTERS: Final = 40
SECRET_SUFFIX: Final = ".key"  # noqa: S105 - a file name
PUBLIC_SUFFIX: Final = ".pub"
SERVER_NAME: Final = "server"

_Z85: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A key that was taken for a path has lost a character where two slashes meet.
_KEY_LIKE_CHARACTERS: Final = range(KEY_CHARACTERS - 4, KEY_CHARACTERS + 1)
_SECRET_WORD: Final = "secret "  # noqa: S105 - a word
# A named pipe does not hold us up, a link does not lead elsewhere.
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class BadKey(ProtocolError):
    """A key, its name or its file cannot be used; the message names the file and never a secret."""


class NoKeyFile(BadKey):
    """There is no such file, or no longer."""


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a trainer needs: the logger's public key, and a secret key of its own. Both are Z85 text."""

    server_public: str
    client_secret: str = field(repr=False)


def check_key(text: str) -> str:
    """Return ``text`` when it is a key in Z85. Raises BadKey, which does not repeat it: it may be a secret."""
    if len(text) != KEY_CHARACTERS or not set(text) <= set(_Z85):
        raise BadKey(f"{len(text)} characters; expected a key: {KEY_CHARACTERS} characters of Z85")
    for start in range(0, KEY_CHARACTERS, 5):
        number = 0
        for character in text[start : start + 5]:
            number = 85 * number + _Z85.index(character)
        if number >= 2**32:
            raise BadKey("the characters are Z85, but no key (a typing error?); copy it again")
    return text


def check_key_name(name: str) -> str:
    """Return a name that is a plain file name, for a key or its owner. Raises BadKey."""
    if not _NAME.fullmatch(name):
        raise BadKey(
            f"name {_told(name)!r:.120}; expected at most 64 letters, digits, dots, dashes and underscores,"
            " the first of them a letter or a digit"
        )
    return name


def read_public_key(source: str | Path) -> str:
    """Return a public key, given itself or the file that holds it. Raises BadKey."""
    path = Path(source)
    if not os.path.lexists(path):
        if isinstance(source, str) and len(source) == KEY_CHARACTERS:
            return check_key(source)
        raise NoKeyFile(f"{_told(source)}: no such file; expected a .pub file or the {KEY_CHARACTERS} characters in it")
    text = _read(path, secret=False)
    if text.startswith(_SECRET_WORD):
        raise BadKey(f"{path} holds a secret key; give the public one, {path.with_suffix(PUBLIC_SUFFIX).name}")
    return _check_content(text, path)


def read_secret_key(path: Path) -> str:
    """Return the secret key in a file that is this user's alone. Raises BadKey."""
    text = _read(path, secret=True)
    if not text.startswith(_SECRET_WORD):
        raise BadKey(f"{path} holds no secret key; give the file {path.with_suffix(SECRET_SUFFIX).name}")
    return _check_content(text.removeprefix(_SECRET_WORD), path)


def read_client_keys(server_key: str | Path | None, client_key: str | Path | None) -> ClientKeys | None:
    """Return a trainer's keys, None when neither is given. Raises BadKey."""
    if not server_key and not client_key:
        return None
    if not server_key or not client_key:
        missing, why = ("client_key", "its own secret key") if server_key else ("server_key", "the logger's public key")
        raise BadKey(f"{missing} is not given; a trainer with keys needs {why} as well. {how_to_get_keys()}")
    return ClientKeys(read_public_key(server_key), read_secret_key(Path(client_key)))


def how_to_get_keys() -> str:
    """Return what to type to get a trainer's keys."""
    return (
        "Make a pair with: tensorboard-sidecar keys create DIR --name NAME; let it in at the logger with: "
        "keys allow NAME PUBLIC_KEY --keys DIR; then give --server_key server.pub --client_key NAME.key"
    )


def write_key_pair(folder: Path, name: str, *, public: str, secret: str) -> tuple[Path, Path]:
    """Write a pair into ``folder``, made private if need be; return the public and the secret file.

    Raises BadKey when one of them exists or the folder is open to others, OSError.
    """
    check_key_name(name)
    make_private_folder(folder)
    public_path, secret_path = folder / (name + PUBLIC_SUFFIX), folder / (name + SECRET_SUFFIX)
    for path in (public_path, secret_path):
        if os.path.lexists(path):
            raise BadKey(
                f"{path} exists and is not overwritten: who knows the old key would be shut out; give another --name,"
                " or another folder, or remove both files first"
            )
    _write(secret_path, f"{_SECRET_WORD}{check_key(secret)}\n", 0o600)
    _write(public_path, f"{check_key(public)}\n", 0o644)
    return public_path, secret_path


def make_private_folder(folder: Path) -> None:
    """Make a folder that only this user enters, or see that it is one. Raises BadKey, OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    check_private_folder(folder)


def check_private_folder(folder: Path) -> None:
    """Raise BadKey for a folder that others may enter, OSError when there is none."""
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise BadKey(
            f"{folder} is open to others; expected a folder of user {os.geteuid()} with mode 0700"
            f" (mode 0{stat.S_IMODE(found.st_mode):o} of user {found.st_uid} came): chmod 700 {folder}"
        )


def _told(source: str | Path) -> str:
    """Return what was given, for an error; not when it looks like a key, which somebody gave in place of its file."""
    text = str(source).strip()
    if text.startswith(_SECRET_WORD) or (len(text) in _KEY_LIKE_CHARACTERS and set(text) <= set(_Z85)):
        return "(what was given looks like a key itself and is not repeated; give the file that holds it)"
    return text[:200]


def _read(path: Path, *, secret: bool) -> str:
    try:
        file = os.open(path, _READ_FLAGS)
    except OSError as error:
        link = " (a symbolic link is not followed)" if path.is_symlink() else ""
        kind = NoKeyFile if isinstance(error, FileNotFoundError) else BadKey
        raise kind(f"{_told(path)} cannot be read: {error.strerror}{link}") from None
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
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.write(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)
