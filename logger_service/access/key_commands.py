"""The texts of the ``keys`` commands: each changes the folder of keys, and returns what to do next."""

import shlex
from pathlib import Path

from tensorboard_sidecar.logger_service.access import allow_list
from tensorboard_sidecar.logger_service.access.allow_list import ALLOW_COMMAND, ALLOWED_NAME
from tensorboard_sidecar.logger_service.access.authenticator import make_key_pair
from tensorboard_sidecar.protocol.storage import key_files


def create_keys(folder: Path, name: str) -> str:
    """Make the key pair ``name`` in ``folder``: of the logger when the name is ``server``, else of a trainer.

    Raises BadKey for a name or folder that cannot be used, and for a pair that exists; OSError.
    """
    public, secret = make_key_pair()
    public_path, secret_path = key_files.write_key_pair(folder, name, public=public, secret=secret)
    lines = [
        f"public key  {public}  in {public_path}",
        f"secret key  in {secret_path}; keep the file on this machine, readable by you alone",
        "",
    ]
    if name == key_files.SERVER_NAME:
        key_files.make_private_folder(folder / ALLOWED_NAME)
        lines += [
            "Next, on the machine of the trainer (choose any NAME):",
            "  tensorboard-sidecar keys create KEYS --name NAME",
            "then here, with the public key that the command prints:",
            f"  {ALLOW_COMMAND} --keys {_quote(folder)}",
            f"  tensorboard-sidecar serve --keys {_quote(folder)} --bind tcp://0.0.0.0:5555",
            "and on the machine of the trainer:",
            _how_to_train("THIS-HOST", _quote(public), f"KEYS/NAME{key_files.SECRET_SUFFIX}"),
        ]
    else:
        lines += [
            "Next, on the machine of the logger (KEYS is the logger's folder of keys):",
            f"  tensorboard-sidecar keys allow {name} {_quote(public)} --keys KEYS",
            "then here, with the logger's public key from KEYS/server.pub on that machine:",
            _how_to_train("LOGGER-HOST", "PUBLIC_KEY", _quote(secret_path)),
        ]
    return "\n".join(lines)


def allow_key(keys: Path, name: str, public_key: str) -> str:
    """Allow a trainer, given its public key or the file of the key. Raises BadKey, TooLarge, OSError."""
    _check_is_made(keys)
    path = allow_list.allow(keys, key_files.check_key_name(name), key_files.read_public_key(public_key))
    return f"{name} may send from now on ({path})"


def list_keys(keys: Path) -> str:
    """Return the logger's public key and a line for each allowed key. Raises BadKey, TooLarge, OSError."""
    _check_is_made(keys)
    public = key_files.read_public_key(keys / (key_files.SERVER_NAME + key_files.PUBLIC_SUFFIX))
    allowed, complaints = allow_list.read_allowed(keys / ALLOWED_NAME)
    lines = [f"{public}  {key_files.SERVER_NAME} (this logger; trainers need this key as --server_key)"]
    lines += [f"{key}  {name}" for key, name in allowed.items()]
    if not allowed:
        lines.append(f"no trainer may send yet; allow a key: {ALLOW_COMMAND} --keys {_quote(keys)}")
    return "\n".join([*lines, *complaints])


def revoke_key(keys: Path, name: str) -> str:
    """Revoke a trainer's key. Raises BadKey when the name is not on the list, OSError."""
    _check_is_made(keys)
    allow_list.revoke(keys, name)
    return f"{name} may no longer send; a running logger refuses the key within a second"


def _how_to_train(host: str, server_key: str, client_key: str) -> str:
    return (
        f"  tensorboard-sidecar train --endpoint tcp://{host}:5555 --server_key {server_key} --client_key {client_key}"
    )


def _check_is_made(keys: Path) -> None:
    secret = keys / (key_files.SERVER_NAME + key_files.SECRET_SUFFIX)
    if not secret.exists():
        raise key_files.BadKey(
            f"{keys} holds no {secret.name}; give the logger's folder with --keys, or make the key with:"
            f" tensorboard-sidecar keys create {_quote(keys)}"
        )


def _quote(text: str | Path) -> str:
    return shlex.quote(str(text))
