"""``python -m trainer.telemetry``: what trainers keep, or left behind, in memory and on disk, and how to ship it."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Final

from protocol.errors import ProtocolError
from protocol.keys import BadKey, ClientKeys, read_client_keys
from protocol.orphan import OrphanedOutbox, find_outboxes
from protocol.outbox_location import outbox_root, spill_root
from protocol.owner_lock import OWNER_LOCK
from trainer.telemetry import DEFAULT_ENDPOINT
from trainer.telemetry.endpoint import check_endpoint
from trainer.telemetry.link import LoggerLink
from trainer.telemetry.session import State
from trainer.telemetry.status import describe, read_status

_WAKE_INTERVAL_SECONDS: Final = 0.1
_EPILOG: Final = """\
What a trainer says lies in an outbox, in memory and, from half of that on, on disk, until a logger has it on its own
disk. Of a trainer that was killed, or had no logger, the outbox stays. The next trainer that has a logger ships it by
the way; to ship it now, without training, is what drain does. Nothing is shipped twice, whoever does it.

examples:
  python -m trainer.telemetry status
  python -m trainer.telemetry drain --endpoint tcp://127.0.0.1:5555
  python -m trainer.telemetry drain /volume     (outboxes of trainers with --outbox_dir /volume)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 something is left, 2 wrong usage."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    options = _parser().parse_args(arguments)
    try:
        folder = options.folder
        if folder is not None and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; give an outbox, or a folder of them")
        folders = find_outboxes(folder.absolute()) if folder is not None else find_outboxes(outbox_root(), spill_root())
        if not folders:
            print("nothing is left behind")
        if options.command == "status":
            for folder in folders:
                print(f"{folder}: {_describe(folder)}")
            return 0
        keys = read_client_keys(options.server_key, options.client_key)
        check_endpoint(options.endpoint, keys=keys is not None)
        return max([_drain(folder, options.endpoint, keys, options.seconds) for folder in folders], default=0)
    except (OSError, ValueError, BadKey) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _describe(folder: Path) -> str:
    try:
        return describe(read_status(folder, wall_time_ns=time_ns()))
    except (ProtocolError, OSError) as error:
        return f"unreadable: {error}"


def _drain(folder: Path, endpoint: str, keys: ClientKeys | None, seconds: float) -> int:
    try:
        orphan = OrphanedOutbox(folder)
    except BlockingIOError:
        print(f"{folder}: its trainer runs and ships it itself")
        return 0
    except (ProtocolError, OSError) as error:
        if not (folder / OWNER_LOCK).exists():
            print(f"{folder}: shipped meanwhile, by a logger or a trainer")
            return 0
        print(f"{folder}: left, unreadable: {error}")
        return 1
    shipped, reason = False, ""
    try:
        shipped, reason = _ship(orphan, LoggerLink(orphan, endpoint, keys), seconds)
    finally:
        orphan.close(keep=not shipped)
    outcome = "shipped" if shipped else f"left: {reason}"
    print(f"{folder}: run {orphan.stream.run}, {orphan.next_sequence - orphan.first_sequence:,} records {outcome}")
    return 0 if shipped else 1


def _ship(orphan: OrphanedOutbox, link: LoggerLink, seconds: float) -> tuple[bool, str]:
    """Ship an outbox; tell whether all of it was acknowledged, and why not."""
    deadline = monotonic() + seconds
    shipped = refused = False
    try:
        while not (shipped or refused) and monotonic() < deadline:
            if not link.step(monotonic()) and not link.wait(_WAKE_INTERVAL_SECONDS):
                sleep(_WAKE_INTERVAL_SECONDS)
            shipped = link.session.acked_sequence >= orphan.next_sequence
            refused = link.session.state is State.REFUSED
    finally:
        link.close()
    return shipped, link.session.reason or f"no logger answered at {link.endpoint} within {seconds:g} seconds"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.telemetry",
        description="Show and ship what trainers left behind when they were killed, or had no logger.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="list outboxes: whose they are, if that runs, what they hold, where")
    drain = commands.add_parser("drain", help="ship outboxes whose trainer is gone to a logger, and delete them")
    for command in (status, drain):
        command.add_argument(
            "folder", nargs="?", type=Path, help="an outbox, or an --outbox_dir (default: this user's places)"
        )
    drain.add_argument("--endpoint", default=DEFAULT_ENDPOINT, help="the logger's address (default: %(default)s)")
    drain.add_argument("--server_key", "--server-key", metavar="KEY", help="the logger's public key, or its .pub file")
    drain.add_argument("--client_key", "--client-key", metavar="FILE", help="the secret key of the stream's trainer")
    drain.add_argument("--seconds", type=float, default=60.0, help="give up on an outbox after (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
