"""The logger's commands: serve, replay, inspect, verify, keys, and project for the projection's process.

Modules that draw are imported inside the commands that need them: ``serve`` draws nothing itself, and must start fast.
"""

import argparse
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import Final, Self, TextIO

from tensorboard_sidecar.logger_service.access import allow_list
from tensorboard_sidecar.logger_service.access.allow_list import ALLOW_COMMAND, ALLOWED_NAME
from tensorboard_sidecar.logger_service.access.authenticator import make_key_pair
from tensorboard_sidecar.logger_service.arguments import serve_config
from tensorboard_sidecar.logger_service.config import ServeConfig
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.folders.logger_lock import FolderInUse
from tensorboard_sidecar.logger_service.projection.process import run_projection
from tensorboard_sidecar.logger_service.service import Service
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.printable import print_line
from tensorboard_sidecar.protocol.storage import key_files
from tensorboard_sidecar.protocol.storage.recording_reader import by_log_dir

EXIT_DONE: Final = 0
EXIT_LATE: Final = 1
EXIT_WRONG: Final = 2
EXIT_LOSSY: Final = 3

# TensorBoard shows ten pictures and a thousand points of a tag, unless these flags ask for more.
_SAMPLES: Final = "scalars=100000,images=200,text=200,audio=50"

_log = logging.getLogger(__name__)

_SHOW_INTERVAL_SECONDS: Final = 0.25
_CLEAR_LINE: Final = "\r\x1b[K"


def _command(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Set up the log; print an expected error as one line, and return exit code 2 for it."""

    @wraps(run)
    def guarded(options: argparse.Namespace) -> int:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        try:
            return run(options)
        except (StartupError, ProtocolError, OSError) as error:
            with suppress(BrokenPipeError):
                print(f"error: {error}", file=sys.stderr)
            return EXIT_WRONG

    return guarded


@_command
def serve(options: argparse.Namespace) -> int:
    """Run a logger until SIGTERM or SIGINT."""
    config = serve_config(options)
    Service(config, lambda endpoint: _announce(config, endpoint)).run()
    return EXIT_DONE


@_command
def replay(options: argparse.Namespace) -> int:
    """Make event files from recordings; return 2 if one of them could not be replayed."""
    from tensorboard_sidecar.logger_service.projection.replay import replay  # noqa: PLC0415 - it draws

    places = [(options.logdir, options.paths)] if options.logdir else by_log_dir(options.paths)
    replayed, in_use = [], False
    for logdir, paths in places:
        with ProgressLine(sys.stderr) as line:
            try:
                one = replay(paths, logdir, lambda one: line.show(f"{one.counts} of {one.folder}"))
            except FolderInUse as error:
                if not places[1:]:
                    raise
                _log.error("%s", error)
                one, in_use = [], True
        for recording in one:
            print_line(recording)
        replayed += one
    above = os.path.commonpath([logdir for logdir, _ in places])
    print_line(f"to watch     tensorboard --logdir {above} --samples_per_plugin {_SAMPLES}")
    return EXIT_WRONG if in_use or any(recording.failure for recording in replayed) else EXIT_DONE


@_command
def inspect(options: argparse.Namespace) -> int:
    """Print the contents of recordings."""
    from tensorboard_sidecar.logger_service.offline.inspection import inspect  # noqa: PLC0415 - takes long to load

    print_line(inspect(options.paths).removesuffix("\n"))
    return EXIT_DONE


@_command
def verify(options: argparse.Namespace) -> int:
    """Check recordings and event files; return 3 if a record or an event is missing or damaged."""
    from tensorboard_sidecar.logger_service.offline.verification import verify  # noqa: PLC0415 - takes long to load

    lossy = False
    for path in options.paths:
        verification = verify(path)
        print_line(verification)
        lossy |= verification.lossy
    return EXIT_LOSSY if lossy else EXIT_DONE


@_command
def keys(options: argparse.Namespace) -> int:
    """Create, allow, list or revoke keys."""
    match options.action:
        case "create":
            print_line(create_keys(options.folder, options.name))
        case "allow":
            print_line(allow_key(options.keys, options.name, options.public_key))
        case "list":
            print_line(list_keys(options.keys))
        case "revoke":
            print_line(revoke_key(options.keys, options.name))
    return EXIT_DONE


@_command
def project(options: argparse.Namespace) -> int:
    """Run the projection's process, as ``serve`` starts it; return 1 if the event files are behind at the end."""
    upto_date = run_projection(
        options.recordings,
        options.logdir,
        lifeline=sys.stdin.fileno(),
        reports=sys.stdout.fileno(),
        disk_reserve_bytes=options.disk_reserve_bytes,
        lock=options.lock,
    )
    return EXIT_DONE if upto_date else EXIT_LATE


def _announce(config: ServeConfig, endpoint: str) -> None:
    """Print where everything is; the last line tells a script that trainers can connect."""
    print_line(
        f"recordings   {config.recordings}\n"
        f"event files  {config.logdir}\n"
        f"to watch     tensorboard --logdir {config.logdir} --samples_per_plugin {_SAMPLES}\n"
        f"who may send {f'keys in {config.keys}' if config.keys else 'everybody who reaches the address below'}\n"
        f"listening on {endpoint}"
    )


class ProgressLine:
    """Shows progress on a line of a terminal: at most four texts a second. Clears the line at the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._shows = stream.isatty()
        self._show_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            self._write(_CLEAR_LINE)

    def show(self, text: str) -> None:
        """Show ``text``, cut to the width of the terminal; skip the text within 0.25 s of the last shown text."""
        if self._shows and self._clock() >= self._show_at:
            self._show_at = self._clock() + _SHOW_INTERVAL_SECONDS
            self._write(_CLEAR_LINE + text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


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
