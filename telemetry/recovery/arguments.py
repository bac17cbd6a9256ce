"""The arguments of ``status`` and ``drain``, and what their help teaches."""

import argparse
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT

_STATUS: Final = """\
List the outboxes on this machine: the process and run of each, whether that process still runs, which records wait
there, where they lie, and for which logger they are. Before them, list the helpers, which make the event files of
SummaryWriter: their folders, how far the event files are behind, and their memory. Nothing is changed.

An outbox keeps a trainer's records until a logger has them on its own disk. It lies in shared memory, and from half of
its size on also on disk. The outbox of a killed trainer stays, and so does that of a trainer that had no logger.
"""
_STATUS_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar status
  tensorboard-sidecar status /volume     (outboxes of trainers with --outbox_dir /volume)
  watch tensorboard-sidecar status

exit codes: 0 done, 2 wrong usage, or a folder that cannot be read, 130 stopped by Ctrl-C
"""
_DRAIN: Final = """\
Ship the outboxes of trainers that have ended to their logger, finish their recordings, and delete them. A logger on
this machine does the same by itself, and so does the next trainer that sends to the same logger; drain does it now,
without training. No record is shipped twice. Records that were only to be recorded go to no logger.
"""
_DRAIN_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar drain
  tensorboard-sidecar drain --endpoint tcp://127.0.0.1:5555
  tensorboard-sidecar drain /volume     (outboxes of trainers with --outbox_dir /volume)
  tensorboard-sidecar drain --record /archive     (the recordings were moved there)

exit codes: 0 everything is shipped or recorded, 1 something is left, 2 wrong usage, 130 stopped by Ctrl-C
"""


def add_status(parser: argparse.ArgumentParser) -> None:
    """Describe ``status``."""
    parser.description, parser.epilog = _STATUS, _STATUS_EXAMPLES
    _add_folder(parser)


def add_drain(parser: argparse.ArgumentParser) -> None:
    """Describe ``drain``."""
    parser.description, parser.epilog = _DRAIN, _DRAIN_EXAMPLES
    _add_folder(parser)
    parser.add_argument(
        "--endpoint",
        help=f"the logger's address (default: the address for which each outbox is, else {DEFAULT_ENDPOINT})",
    )
    parser.add_argument(
        "--record", type=Path, metavar="FOLDER", help="where the recordings are now (default: where they were begun)"
    )
    parser.add_argument("--server_key", "--server-key", metavar="KEY", help="the logger's public key, or its .pub file")
    parser.add_argument("--client_key", "--client-key", metavar="FILE", help="the secret key of the stream's trainer")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="time for each outbox, in seconds (default: %(default)s)"
    )


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=Path, help="an outbox, or an --outbox_dir (default: the folders of this user)"
    )
