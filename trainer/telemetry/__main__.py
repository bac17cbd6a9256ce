"""``python -m trainer.telemetry``: what trainers left behind in shared memory, and how to ship it."""

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from protocol.errors import ProtocolError
from protocol.orphan import OrphanedOutbox, find_outboxes
from protocol.outbox_location import outbox_root
from trainer.telemetry import DEFAULT_ENDPOINT
from trainer.telemetry.endpoint import check_endpoint
from trainer.telemetry.link import LoggerLink
from trainer.telemetry.session import State

_WAKE_INTERVAL_SECONDS: Final = 0.1
_EPILOG: Final = """examples:
  python -m trainer.telemetry status
  python -m trainer.telemetry drain --endpoint tcp://127.0.0.1:5555
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 something is left, 2 wrong usage."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    options = _parser().parse_args(arguments)
    try:
        root = options.folder or outbox_root()
        if not root.is_dir():
            raise NotADirectoryError(f"{root} is no folder; give an outbox, or a folder of them")
        folders = find_outboxes(root)
        if not folders:
            print("nothing is left behind")
        if options.command == "status":
            for folder in folders:
                print(f"{folder}: {_size_bytes(folder):,} bytes, {_describe(folder)}")
            return 0
        check_endpoint(options.endpoint)
        return max([_drain(folder, options.endpoint, options.seconds) for folder in folders], default=0)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _size_bytes(folder: Path) -> int:
    size = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # a trainer that runs gives segments back
            size += path.stat().st_size
    return size


def _describe(folder: Path) -> str:
    try:
        orphan = OrphanedOutbox(folder)
    except BlockingIOError:
        return "its trainer runs"
    except (ProtocolError, OSError) as error:
        return f"unreadable: {error}"
    orphan.close(keep=True)
    return (
        f"run {orphan.stream.run}, records {orphan.first_sequence:,} to {orphan.next_sequence - 1:,}, "
        f"its trainer is gone; ship it with: python -m trainer.telemetry drain {folder}"
    )


def _drain(folder: Path, endpoint: str, seconds: float) -> int:
    try:
        orphan = OrphanedOutbox(folder)
    except BlockingIOError:
        print(f"{folder}: its trainer runs and ships it itself")
        return 0
    except (ProtocolError, OSError) as error:
        print(f"{folder}: left, unreadable: {error}")
        return 1
    shipped, reason = False, ""
    try:
        shipped, reason = _ship(orphan, endpoint, seconds)
    finally:
        orphan.close(keep=not shipped)
    outcome = "shipped" if shipped else f"left: {reason}"
    print(f"{folder}: run {orphan.stream.run}, {orphan.next_sequence - orphan.first_sequence:,} records {outcome}")
    return 0 if shipped else 1


def _ship(orphan: OrphanedOutbox, endpoint: str, seconds: float) -> tuple[bool, str]:
    """Ship an outbox; tell whether all of it was acknowledged, and why not."""
    link = LoggerLink(orphan, endpoint)
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
    return shipped, link.session.reason or f"no logger answered at {endpoint} within {seconds:g} seconds"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.telemetry",
        description="Show and ship what trainers left in shared memory when they were killed, or had no logger.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    status = commands.add_parser("status", help="list outboxes, whose they are, and what they hold")
    drain = commands.add_parser("drain", help="ship outboxes whose trainer is gone to a logger, and delete them")
    for command in (status, drain):
        command.add_argument(
            "folder", nargs="?", type=Path, help="an outbox, or a folder of them (default: this user's)"
        )
    drain.add_argument("--endpoint", default=DEFAULT_ENDPOINT, help="the logger's address (default: %(default)s)")
    drain.add_argument("--seconds", type=float, default=60.0, help="give up on an outbox after (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
