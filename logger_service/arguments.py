"""The command line of the logger: what there is, and what it means."""

import argparse
from pathlib import Path
from typing import Final

from logger_service.config import ServeConfig

_DESCRIPTION: Final = """\
Keep what trainers send, and make event files for TensorBoard from it.

  serve     receive from running trainers: journal first, event files from the journal
  replay    make event files from recordings, now or years later; the same bytes as serve made
  inspect   tell what is in a recording
  verify    read every byte of recordings or event files and tell whether anything was lost
"""
_EXAMPLES: Final = """\
examples:
  python -m logger_service serve
  python -m logger_service serve --bind tcp://127.0.0.1:6000 --recordings /data/recordings --logdir /data/runs
  python -m logger_service replay recordings --logdir replayed
  python -m logger_service verify recordings && echo nothing lost

Exit codes: 0 well, 2 wrong usage or a file that cannot be read, 3 something was lost (verify).
"""
_SERVE: Final = """\
Receive from running trainers. Everything is written to --recordings and on disk before it is acknowledged; a second
process draws from there into --logdir. Either may be killed at any time: what was acknowledged is kept, and comes to
the event files once. Ctrl-C or SIGTERM stops in order; a second Ctrl-C at once.
"""
_REPLAY: Final = "Make event files from recordings. What the log directory holds already is not written again."
_INSPECT: Final = "Tell for each recording whose it is, how far it goes, what is in it, and what is missing."
_VERIFY: Final = "Read every byte of recordings or event files. Exit code 3 when something was lost, 0 when not."


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; ``command`` of what it parses is the command's name."""
    parser = argparse.ArgumentParser(
        prog="python -m logger_service",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="receive from running trainers", description=_SERVE))
    replay = commands.add_parser("replay", help="make event files from recordings", description=_REPLAY)
    _add_paths(replay, "a recording, or a folder above recordings")
    _add_logdir(replay, required=True)
    inspect = commands.add_parser("inspect", help="tell what is in a recording", description=_INSPECT)
    _add_paths(inspect, "a recording, or a folder above recordings")
    verify = commands.add_parser("verify", help="tell whether anything was lost", description=_VERIFY)
    _add_paths(verify, "a recording, a log directory, or a folder above them")
    project = commands.add_parser("project", description="What serve starts as its second process; not for people.")
    project.add_argument("--recordings", type=Path, required=True)
    _add_logdir(project, required=True)
    return parser


def serve_config(options: argparse.Namespace) -> ServeConfig:
    """Return the settings of ``serve``; raises StartupError."""
    return ServeConfig(
        bind=options.bind,
        recordings=options.recordings,
        logdir=options.logdir,
        drain_seconds=options.drain_seconds,
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bind",
        default="tcp://127.0.0.1:5555",
        metavar="ENDPOINT",
        help="where trainers connect: tcp:// on this machine (port *: any free one) or ipc:// (default: %(default)s)",
    )
    parser.add_argument(
        "--recordings",
        type=Path,
        default=Path("recordings"),
        metavar="DIR",
        help="where the journal is kept (default: %(default)s)",
    )
    _add_logdir(parser, default=Path("runs_brain_v2"))
    parser.add_argument(
        "--drain_seconds",
        "--drain-seconds",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a stop waits until the event files are up to date (default: %(default)g)",
    )


def _add_paths(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=what)


def _add_logdir(parser: argparse.ArgumentParser, *, required: bool = False, default: Path | None = None) -> None:
    told = "" if default is None else " (default: %(default)s)"
    parser.add_argument(
        "--logdir",
        "--log_dir",
        "--log-dir",
        type=Path,
        required=required,
        default=default,
        metavar="DIR",
        help=f"where TensorBoard reads event files{told}",
    )
