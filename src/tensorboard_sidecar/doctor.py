"""The command ``doctor`` has two halves in two rooms: the logger's room judges runs, the client's tries a logger.

The client and the logger do not import each other. This module describes the command, and loads the half that is asked
for: to judge runs needs no torch, and to try a logger needs no part of the logger.
"""

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT

_DESCRIPTION: Final = """\
Say what is wrong with runs: since when, on what evidence, and what people do about it. The runs are recordings, or the
event files of any program: this one, torch's and tensorboardX's SummaryWriter, Lightning's logger, TensorFlow. All runs
at or below PATH are judged, each once: a recording rather than its event files, as more is in it. Nothing is changed.

A finding is open, or cleared: its values are good again, or a later attempt of the run began. What could not be checked
is said as well: a rule without its values gives no verdict. The rule "*" stands for a part that cannot be read.

With --live, try a running logger instead: send it a marked point as a trainer does, wait for the point in TensorBoard,
and say which hop fails. The point is in a run of its own, doctor/ and eight digits, which stays.
"""
_EPILOG: Final = """\
examples:
  tensorboard-sidecar doctor recordings
  tensorboard-sidecar doctor lightning_logs runs/first-try
  tensorboard-sidecar doctor runs --json | jq '.findings[] | select(.state == "open")'
  tensorboard-sidecar doctor --live
  tensorboard-sidecar doctor --live --endpoint tcp://127.0.0.1:6000 --tensorboard http://localhost:6007

exit codes: 0 nothing above information is open (--live: every hop works), 2 wrong usage, or nothing that can be judged,
4 an error is open (--live: a hop fails), 5 a warning is open, 130 stopped by Ctrl-C
"""
_WRONG: Final = 2
_HALVES: Final = {
    False: ("logger_service.commands", "doctor", "tensorboardX", "logger"),
    True: ("telemetry.probe.commands", "probe", "torch", "telemetry"),
}


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Describe ``doctor``."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "paths", type=Path, nargs="*", metavar="PATH", help="a recording, a log directory, or a folder above them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON: findings, and what was not checked")
    live = parser.add_argument_group("a running logger")
    live.add_argument("--live", action="store_true", help="try a running logger")
    live.add_argument(
        "--endpoint", default=DEFAULT_ENDPOINT, help="the logger's address, as trainers name it (default: %(default)s)"
    )
    live.add_argument(
        "--tensorboard",
        default="http://localhost:6006",
        metavar="URL",
        help="the address of TensorBoard (default: %(default)s)",
    )
    live.add_argument(
        "--logdir",
        "--log_dir",
        "--log-dir",
        type=Path,
        metavar="DIR",
        help="the logger's folder of event files, to look for the point there too (default: the folder of TensorBoard)",
    )
    live.add_argument("--server_key", "--server-key", metavar="KEY", help="the logger's public key, or its .pub file")
    live.add_argument("--client_key", "--client-key", metavar="FILE", help="a trainer's secret key")
    live.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        help="how long to wait for the event file, and for TensorBoard, in seconds (default: %(default)g)",
    )


def doctor(options: argparse.Namespace) -> int:
    """Judge runs, or try a logger; return the exit code."""
    room, function, library, extra = _HALVES[options.live]
    if options.live and (options.paths or options.json):
        return _complain("--live tries a logger: give it no PATH and no --json")
    if not (options.live or options.paths):
        return _complain("give a PATH to judge: recordings, or a log directory; or --live to try a running logger")
    if find_spec(f"tensorboard_sidecar.{room.partition('.')[0]}") is None:
        return _complain(f"doctor{' --live' * options.live} is not a part of this installation")
    if find_spec(library) is None:
        return _complain(f"doctor needs {library}, which is not installed: pip install 'tensorboard-sidecar[{extra}]'")
    code: int = getattr(import_module(f"tensorboard_sidecar.{room}"), function)(options)
    return code


def _complain(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return _WRONG
