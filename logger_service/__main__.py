"""``tensorboard-sidecar``: serve, replay, inspect, verify, keys.

What draws is imported where it is needed: ``serve`` itself draws nothing, and must be up at once.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from tensorboard_sidecar.logger_service.access.key_commands import allow_key, create_keys, list_keys, revoke_key
from tensorboard_sidecar.logger_service.arguments import make_parser, serve_config
from tensorboard_sidecar.logger_service.config import ServeConfig
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.offline.progress_line import ProgressLine
from tensorboard_sidecar.logger_service.projection.process import run_projection
from tensorboard_sidecar.logger_service.service import Service
from tensorboard_sidecar.protocol.errors import ProtocolError

EXIT_WELL: Final = 0
EXIT_LATE: Final = 1
EXIT_WRONG: Final = 2
EXIT_LOSSY: Final = 3
EXIT_INTERRUPTED: Final = 130

# TensorBoard shows ten pictures and a thousand points a tag unless told otherwise.
_SAMPLES: Final = "scalars=100000,images=200,text=200,audio=50"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code."""
    options = make_parser().parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    command: Callable[[argparse.Namespace], int] = _COMMANDS[options.command]
    try:
        return command(options)
    except (StartupError, ProtocolError, OSError) as error:
        with suppress(BrokenPipeError):
            print(f"error: {error}", file=sys.stderr)
        return EXIT_WRONG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _say(text: object) -> None:
    """Print. Whoever reads it may have seen enough: the command goes on all the same, and its exit code holds."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _serve(options: argparse.Namespace) -> int:
    config = serve_config(options)
    Service(config, lambda endpoint: _announce(config, endpoint)).run()
    return EXIT_WELL


def _announce(config: ServeConfig, endpoint: str) -> None:
    """Say where everything is; the last line tells a script that trainers can connect."""
    _say(
        f"recordings   {config.recordings}\n"
        f"event files  {config.logdir}\n"
        f"to watch     tensorboard --logdir {config.logdir} --samples_per_plugin {_SAMPLES}\n"
        f"who may send {f'keys in {config.keys}' if config.keys else 'whoever reaches the address below'}\n"
        f"listening on {endpoint}"
    )


def _replay(options: argparse.Namespace) -> int:
    from tensorboard_sidecar.logger_service.projection.replay import replay  # noqa: PLC0415 - see above

    with ProgressLine(sys.stderr) as line:
        replayed = replay(options.paths, options.logdir, lambda one: line.show(f"{one.counts} of {one.folder}"))
    for one in replayed:
        _say(one)
    _say(f"to watch     tensorboard --logdir {options.logdir} --samples_per_plugin {_SAMPLES}")
    return EXIT_WRONG if any(one.failure for one in replayed) else EXIT_WELL


def _inspect(options: argparse.Namespace) -> int:
    from tensorboard_sidecar.logger_service.offline.inspection import inspect  # noqa: PLC0415 - see above

    _say(inspect(options.paths).removesuffix("\n"))
    return EXIT_WELL


def _verify(options: argparse.Namespace) -> int:
    from tensorboard_sidecar.logger_service.offline.verification import verify  # noqa: PLC0415 - see above

    lossy = False
    for path in options.paths:
        verification = verify(path)
        _say(verification)
        lossy |= verification.lossy
    return EXIT_LOSSY if lossy else EXIT_WELL


def _keys(options: argparse.Namespace) -> int:
    match options.action:
        case "create":
            _say(create_keys(options.folder, options.name))
        case "allow":
            _say(allow_key(options.keys, options.name, options.public_key))
        case "list":
            _say(list_keys(options.keys))
        case "revoke":
            _say(revoke_key(options.keys, options.name))
    return EXIT_WELL


def _project(options: argparse.Namespace) -> int:
    upto_date = run_projection(
        options.recordings,
        options.logdir,
        lifeline=sys.stdin.fileno(),
        reports=sys.stdout.fileno(),
        disk_reserve_bytes=options.disk_reserve_bytes,
    )
    return EXIT_WELL if upto_date else EXIT_LATE


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "serve": _serve,
    "replay": _replay,
    "inspect": _inspect,
    "verify": _verify,
    "keys": _keys,
    "project": _project,
}

if __name__ == "__main__":
    sys.exit(main())
