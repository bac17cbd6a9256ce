"""The logger's commands: serve, replay, inspect, verify, doctor, keys, and project for the projection's process.

Each command imports its own program, so that no command waits for the libraries of another command.
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from time import monotonic, time_ns
from typing import Final, Self, TextIO

from tensorboard_sidecar.logger_service.arguments import serve_config
from tensorboard_sidecar.logger_service.config import ServeConfig
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.folders.logger_lock import FolderInUse
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.printable import print_line
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
    from tensorboard_sidecar.logger_service.service import Service  # noqa: PLC0415 - see above

    Service(config, lambda endpoint: _announce(config, endpoint)).run()
    return EXIT_DONE


@_command
def replay(options: argparse.Namespace) -> int:
    """Make event files from recordings; return 2 if one of them could not be replayed."""
    from tensorboard_sidecar.logger_service.projection.replay import replay  # noqa: PLC0415 - see above

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
    from tensorboard_sidecar.logger_service.offline.inspection import inspect  # noqa: PLC0415 - see above

    print_line(inspect(options.paths).removesuffix("\n"))
    return EXIT_DONE


@_command
def verify(options: argparse.Namespace) -> int:
    """Check recordings and event files; return 3 if a record or an event is missing or damaged."""
    from tensorboard_sidecar.logger_service.offline.verification import verify  # noqa: PLC0415 - see above

    lossy = False
    for path in options.paths:
        verification = verify(path)
        print_line(verification)
        lossy |= verification.lossy
    return EXIT_LOSSY if lossy else EXIT_DONE


@_command
def doctor(options: argparse.Namespace) -> int:
    """Say what is wrong with runs; return 4 when an error is open, 5 when a warning is, 2 when no run was judged."""
    from tensorboard_sidecar.logger_service.doctor import report  # noqa: PLC0415 - see above
    from tensorboard_sidecar.logger_service.doctor.examination import examine  # noqa: PLC0415 - see above
    from tensorboard_sidecar.logger_service.findings.rules.registry import RULES  # noqa: PLC0415 - see above

    with ProgressLine(sys.stderr) as line:
        found = examine(options.paths, RULES, time_ns(), line.show)
    if options.json:
        print_line(report.to_json(found))
    else:
        on_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else None
        for text in report.describe(
            found, len(RULES), width=width, colour=on_terminal and "NO_COLOR" not in os.environ
        ):
            print_line(text)
    if not found.runs:
        raise FileNotFoundError(f"nothing can be judged at or below {', '.join(map(str, options.paths))}")
    return report.exit_code(found)


@_command
def keys(options: argparse.Namespace) -> int:
    """Create, allow, list or revoke keys."""
    from tensorboard_sidecar.logger_service.access import key_commands  # noqa: PLC0415 - see above

    match options.action:
        case "create":
            print_line(key_commands.create_keys(options.folder, options.name))
        case "allow":
            print_line(key_commands.allow_key(options.keys, options.name, options.public_key))
        case "list":
            print_line(key_commands.list_keys(options.keys))
        case "revoke":
            print_line(key_commands.revoke_key(options.keys, options.name))
    return EXIT_DONE


@_command
def project(options: argparse.Namespace) -> int:
    """Run the projection's process, as ``serve`` starts it; return 1 if the event files are behind at the end."""
    from tensorboard_sidecar.logger_service.projection.process import run_projection  # noqa: PLC0415 - see above

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
