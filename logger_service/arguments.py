"""The arguments of the logger's commands, and what their help teaches."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.config import HEALTH_ADDRESS, OFF, ServeConfig
from tensorboard_sidecar.logger_service.limits import HOOK_CALL_MAX_SECONDS, HOOK_CALLS_A_MINUTE_MAX
from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT
from tensorboard_sidecar.protocol.storage.key_files import SERVER_NAME

_SERVE: Final = """\
Run a logger. It receives records from running trainers, appends them to a journal below --recordings, and acknowledges
them when they are on disk. A second process, the projection, reads the journal and writes event files to --logdir.
Either process may be killed at any time: acknowledged records are kept, and each comes to the event files once.
Ctrl-C or SIGTERM stops the logger in order; a second Ctrl-C stops it at once.
"""
_SERVE_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar serve
  tensorboard-sidecar serve --bind tcp://127.0.0.1:6000 --recordings /data/recordings --logdir /data/runs
  tensorboard-sidecar serve --keys keys --bind tcp://0.0.0.0:5555     (trainers on other machines; see: keys --help)
  tensorboard-sidecar serve --on_finding './notify.py --to me'        (be told what is wrong with a run)

A finding says what is wrong with a run, since when, and what people do about it. A hook gets it as JSON: run, rank,
attempt, stream, rule, severity (info, warn, error), tag, state (open, cleared), first_step, last_step, count, peak,
evidence, advice, and text, a line for people. This script for --on_finding writes a file:

  #!/usr/bin/env python3
  import json, pathlib, sys
  finding = json.load(sys.stdin)
  if finding["severity"] == "error":
      (pathlib.Path.home() / "findings").open("a").write(finding["text"] + "\\n")

exit codes: 0 stopped in order, 2 wrong usage, or a folder or address that cannot be used, 130 stopped at once
"""
_REPLAY: Final = """\
Make event files from recordings, now or years later. They hold the same bytes as those of the logger that received the
records. Events that the log directory holds already are not written again. No torch is needed.

Without --logdir, a recording that a SummaryWriter made in its log_dir is shown there.
"""
_REPLAY_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar replay recordings --logdir runs
  tensorboard-sidecar replay recordings/team/run --logdir one-run
  tensorboard-sidecar replay runs/first-try     (the log_dir of a SummaryWriter, or a folder above)
  tensorboard-sidecar replay recordings --logdir runs && tensorboard --logdir runs

exit codes: 0 done, 2 wrong usage, or a recording or folder that cannot be used, 130 stopped by Ctrl-C
"""
_INSPECT: Final = """\
Show for each recording its run and trainer, its first and last sequence number, the kinds of its records, and its gaps.
"""
_INSPECT_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar inspect recordings
  tensorboard-sidecar inspect recordings/team/run
  tensorboard-sidecar inspect recordings | less

exit codes: 0 done, 2 wrong usage, or no recording there, 130 stopped by Ctrl-C
"""
_VERIFY: Final = """\
Read every byte of recordings or event files, and report missing or damaged records and events.
"""
_VERIFY_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar verify recordings
  tensorboard-sidecar verify recordings runs
  tensorboard-sidecar verify recordings && echo nothing lost

exit codes: 0 complete, 2 wrong usage, or no files there, 3 something was lost, 130 stopped by Ctrl-C
"""
_KEYS: Final = """\
Trainers on other machines, or of other users, need keys: their connections are then encrypted, and the logger accepts
those trainers alone that are on its list. The logger has a pair of keys and every trainer has one; each side gives its
public key to the other. A folder of keys, made by create, holds:

  server.key     the logger's secret key; readable by its user alone (mode 0600)
  server.pub     its public key, for trainers: --server_key
  allowed/NAME   the public key of a trainer that may send
"""
_KEYS_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar keys create keys                     at the logger: make its keys
  tensorboard-sidecar keys create keys --name gpu-box      at a trainer: make that trainer's keys
  tensorboard-sidecar keys allow gpu-box gpu-box.pub       at the logger: let the trainer in

exit codes: 0 done, 2 wrong usage, or a key or folder that cannot be used
"""
_CREATE: Final = """\
Make a pair of keys: the logger's, or with --name a trainer's. Existing keys are not overwritten. The commands to type
next are printed.
"""
_ALLOW: Final = "Let a trainer in. A running logger notices the change at once."
_LIST: Final = "Show the logger's public key and those of the trainers that may send."
_REVOKE: Final = """\
Shut a trainer out. A running logger refuses its messages within a second; records that it sent before are kept.
"""


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Describe ``serve``."""
    parser.description, parser.epilog = _SERVE, _SERVE_EXAMPLES
    parser.add_argument(
        "--bind",
        default=DEFAULT_ENDPOINT,
        metavar="ENDPOINT",
        help="where trainers connect: tcp:// on this machine, with --keys on any (0.0.0.0: all its addresses; port *:"
        " any free one), or ipc://DIR/NAME in a folder of mode 0700 (default: %(default)s)",
    )
    _add_folder(
        parser,
        "--keys",
        "encrypt, and take records only from trainers whose keys this folder allows; make the folder with:"
        " tensorboard-sidecar keys create DIR (default: everybody who reaches --bind may send)",
    )
    _add_folder(parser, "--recordings", "folder of the journal (default: %(default)s)", Path("recordings"))
    _add_logdir(parser, default=Path("runs_brain_v2"))
    _add_watch(parser)
    _add_hooks(parser)
    parser.add_argument(
        "--drain_seconds",
        "--drain-seconds",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long a stop waits for the event files to be up to date (default: %(default)g)",
    )


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Describe ``replay``."""
    parser.description, parser.epilog = _REPLAY, _REPLAY_EXAMPLES
    _add_paths(parser, "a recording, or a folder above recordings")
    _add_logdir(parser)


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Describe ``inspect``."""
    parser.description, parser.epilog = _INSPECT, _INSPECT_EXAMPLES
    _add_paths(parser, "a recording, or a folder above recordings")


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Describe ``verify``."""
    parser.description, parser.epilog = _VERIFY, _VERIFY_EXAMPLES
    _add_paths(parser, "a recording, a log directory, or a folder above them")


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Describe ``keys`` and its actions."""
    parser.description, parser.epilog = _KEYS, _KEYS_EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a pair of keys", description=_CREATE)
    create.add_argument("folder", type=Path, metavar="DIR", help="folder of the keys; made, for this user alone")
    create.add_argument("--name", default=SERVER_NAME, help="name of the trainer (default: the logger's keys)")
    allow = actions.add_parser("allow", help="let a trainer in", description=_ALLOW)
    allow.add_argument("name", metavar="NAME", help="the trainer's name, for this list and for the log")
    allow.add_argument("public_key", metavar="PUBLIC_KEY", help="40 characters, in quotes, or the .pub file with them")
    listed = actions.add_parser("list", help="show the trainers that may send", description=_LIST)
    revoke = actions.add_parser("revoke", help="shut a trainer out", description=_REVOKE)
    revoke.add_argument("name", metavar="NAME", help="the trainer's name")
    for action in (allow, listed, revoke):
        _add_folder(action, "--keys", "the logger's folder of keys (default: %(default)s)", Path("keys"))


def add_project(parser: argparse.ArgumentParser) -> None:
    """Describe ``project``, the projection's process."""
    parser.description = "Run the projection's process. The command serve starts it; it is not for people."
    parser.add_argument("--recordings", type=Path, required=True)
    parser.add_argument("--disk_reserve_bytes", type=int)
    parser.add_argument("--lock", type=int, help="file descriptor of the parent's lock on the log directory")
    _add_logdir(parser, required=True)


def serve_config(options: argparse.Namespace) -> ServeConfig:
    """Return the settings of ``serve``; raises StartupError."""
    settings = {setting.name: getattr(options, setting.name) for setting in fields(ServeConfig)}
    return ServeConfig(**settings | {"adopt_for": tuple(options.adopt_for)})


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--health",
        metavar="HOST:PORT",
        help="address of /healthz (200: well, 503: not, with the reason) and /metrics (Prometheus); port *: any free"
        f" one; {OFF}: no page; 0.0.0.0 only in a container, as anybody may read the page (default: {HEALTH_ADDRESS},"
        " if free)",
    )
    parser.add_argument(
        "--adopt",
        metavar="DIR",
        help="take the records that ended trainers left in outboxes below this folder, some seconds after their end;"
        f" {OFF}: take none (default: the folders of this user's trainers on this machine)",
    )
    parser.add_argument(
        "--adopt_for",
        "--adopt-for",
        action="append",
        default=[],
        metavar="ENDPOINT",
        help="another address by which trainers call this logger, like tcp://logger:5555: records left for that address"
        " are adopted too; may be given more than once",
    )
    parser.add_argument(
        "--disk_reserve_bytes",
        "--disk-reserve-bytes",
        type=int,
        metavar="BYTES",
        help="bytes to keep free on the disks of --recordings and --logdir: with less, trainers keep their records and"
        " event files wait until there is room; 0: no reserve (default: 256 MiB, or 5 %% of a small disk)",
    )


def _add_hooks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on_finding",
        "--on-finding",
        metavar="COMMAND",
        help="run this program with a finding as JSON on standard input, when the finding opens and when it clears; one"
        f" call at a time, at most {HOOK_CALLS_A_MINUTE_MAX} a minute and {HOOK_CALL_MAX_SECONDS} s each, then it is"
        " killed. No shell reads the command; it gets PATH, HOME, the language, and variables that begin with HOOK_"
        f" (default: {OFF})",
    )
    parser.add_argument(
        "--on_finding_url",
        "--on-finding-url",
        metavar="URL",
        help="send the same JSON to this http or https address by POST, and again after a failure; no proxy and no"
        f" redirect is used (default: {OFF})",
    )


def _add_folder(parser: argparse.ArgumentParser, flag: str, explanation: str, default: Path | None = None) -> None:
    parser.add_argument(flag, type=Path, default=default, metavar="DIR", help=explanation)


def _add_paths(parser: argparse.ArgumentParser, explanation: str) -> None:
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=explanation)


def _add_logdir(parser: argparse.ArgumentParser, *, required: bool = False, default: Path | None = None) -> None:
    shown = "" if default is None else " (default: %(default)s)"
    parser.add_argument(
        "--logdir",
        "--log_dir",
        "--log-dir",
        type=Path,
        required=required,
        default=default,
        metavar="DIR",
        help=f"folder of the event files, which TensorBoard reads{shown}",
    )
