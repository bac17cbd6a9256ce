"""The command line of the logger: what there is, and what it means."""

import argparse
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.config import HEALTH_ADDRESS, OFF, ServeConfig
from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT
from tensorboard_sidecar.protocol.storage.key_files import SERVER_NAME

_AS_WRITTEN: Final = argparse.RawDescriptionHelpFormatter
_DESCRIPTION: Final = """\
Keep what trainers send, and make event files for TensorBoard from it.

  serve     receive from running trainers: journal first, event files from the journal
  replay    make event files from recordings, now or years later; the same bytes as serve made
  inspect   tell what is in a recording
  verify    read every byte of recordings or event files and tell whether anything was lost
  keys      make keys for trainers on other machines, let them in, shut them out
"""
_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar serve
  tensorboard-sidecar serve --bind tcp://127.0.0.1:6000 --recordings /data/recordings --logdir /data/runs
  tensorboard-sidecar replay recordings --logdir replayed
  tensorboard-sidecar verify recordings && echo nothing lost
  tensorboard-sidecar keys create keys
  tensorboard-sidecar serve --keys keys --bind tcp://0.0.0.0:5555

Exit codes: 0 well, 2 wrong usage or a file that cannot be read, 3 something was lost (verify).
"""
_SERVE: Final = """\
Receive from running trainers. Everything is written to --recordings and on disk before it is acknowledged; a second
process draws from there into --logdir. Either may be killed at any time: what was acknowledged is kept, and comes to
the event files once. Ctrl-C or SIGTERM stops in order; a second Ctrl-C at once.
"""
_REPLAY: Final = "Make event files from recordings. What the log directory holds already is not written again."
_INSPECT: Final = "Tell for each recording whose it is, how far it goes, what is in it, and what is missing."
_KEYS: Final = """\
Trainers on other machines, or of other users, need keys: what they send is then encrypted, and taken from those alone
that are on the logger's list. The logger has a pair of keys and every trainer has one; each gives the other its public
key. A folder of keys, made by create, holds:

  server.key     the logger's secret key; for its user alone (mode 0600)
  server.pub     its public key, for trainers: --server_key
  allowed/NAME   the public key of a trainer that may send
"""
_CREATE: Final = """\
Make a pair of keys: the logger's, or with --name a trainer's. Nothing is overwritten. What to type next is printed.
"""
_ALLOW: Final = "Let a trainer in. A logger that runs takes note at once."
_LIST: Final = "Show the logger's public key and those of the trainers that may send."
_REVOKE: Final = """\
Shut a trainer out. A logger that runs refuses its messages within a second; what it sent before is kept.
"""
_VERIFY: Final = "Read every byte of recordings or event files. Exit code 3 when something was lost, 0 when not."


def make_parser() -> argparse.ArgumentParser:
    """Return the parser; ``command`` of what it parses is the command's name."""
    parser = argparse.ArgumentParser(
        prog="tensorboard-sidecar",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=_AS_WRITTEN,
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
    _add_keys(commands.add_parser("keys", help="who may send", description=_KEYS, formatter_class=_AS_WRITTEN))
    project = commands.add_parser("project", description="What serve starts as its second process; not for people.")
    project.add_argument("--recordings", type=Path, required=True)
    project.add_argument("--disk_reserve_bytes", type=int)
    _add_logdir(project, required=True)
    return parser


def serve_config(options: argparse.Namespace) -> ServeConfig:
    """Return the settings of ``serve``; raises StartupError."""
    return ServeConfig(
        bind=options.bind,
        keys=options.keys,
        recordings=options.recordings,
        logdir=options.logdir,
        health=options.health,
        adopt=options.adopt,
        adopt_for=tuple(options.adopt_for),
        disk_reserve_bytes=options.disk_reserve_bytes,
        drain_seconds=options.drain_seconds,
    )


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bind",
        default=DEFAULT_ENDPOINT,
        metavar="ENDPOINT",
        help="where trainers connect: tcp:// on this machine, with --keys on any (0.0.0.0: all its addresses; port *:"
        " any free one), or ipc://DIR/NAME in a folder of mode 0700 (default: %(default)s)",
    )
    parser.add_argument(
        "--keys",
        type=Path,
        metavar="DIR",
        help="take records only from trainers whose keys are allowed in this folder, encrypted; it is made by:"
        " tensorboard-sidecar keys create DIR (default: whoever reaches --bind may send)",
    )
    parser.add_argument(
        "--recordings",
        type=Path,
        default=Path("recordings"),
        metavar="DIR",
        help="where the journal is kept (default: %(default)s)",
    )
    _add_logdir(parser, default=Path("runs_brain_v2"))
    _add_watch(parser)
    parser.add_argument(
        "--drain_seconds",
        "--drain-seconds",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a stop waits until the event files are up to date (default: %(default)g)",
    )


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--health",
        metavar="HOST:PORT",
        help="where /healthz (200: well, 503: not, and why) and /metrics (Prometheus) are served; port *: any free one;"
        f" {OFF}: nowhere; 0.0.0.0 only in a container, as anybody may read them (default: {HEALTH_ADDRESS}, if free)",
    )
    parser.add_argument(
        "--adopt",
        metavar="DIR",
        help="take what killed trainers left in outboxes below this folder, once they are gone for a few seconds;"
        f" {OFF}: nothing (default: where trainers of this user on this machine put them)",
    )
    parser.add_argument(
        "--adopt_for",
        "--adopt-for",
        action="append",
        default=[],
        metavar="ENDPOINT",
        help="what trainers call this logger, where --bind does not tell, like tcp://logger:5555; what they left for it"
        " is adopted too; may be given more than once",
    )
    parser.add_argument(
        "--disk_reserve_bytes",
        "--disk-reserve-bytes",
        type=int,
        metavar="BYTES",
        help="so much stays free on the disks of --recordings and --logdir: below it trainers are asked to keep what"
        " they have and event files wait, until there is room; 0: no such mark (default: 256 MiB, or 5 %% of a small"
        " disk)",
    )


def _add_keys(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a pair of keys", description=_CREATE)
    create.add_argument("folder", type=Path, metavar="DIR", help="where to; it is made, for this user alone")
    create.add_argument("--name", default=SERVER_NAME, help="whose: a trainer's name (default: the logger's)")
    allow = actions.add_parser("allow", help="let a trainer in", description=_ALLOW)
    allow.add_argument("name", metavar="NAME", help="the trainer's name, for this list and for the log")
    allow.add_argument("public_key", metavar="PUBLIC_KEY", help="40 characters, in quotes, or the .pub file with them")
    shown = actions.add_parser("list", help="show who may send", description=_LIST)
    revoke = actions.add_parser("revoke", help="shut a trainer out", description=_REVOKE)
    revoke.add_argument("name", metavar="NAME", help="the trainer's name")
    for action in (allow, shown, revoke):
        action.add_argument(
            "--keys",
            type=Path,
            default=Path("keys"),
            metavar="DIR",
            help="the logger's folder of keys (default: %(default)s)",
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
