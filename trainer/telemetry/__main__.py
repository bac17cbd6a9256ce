"""``python -m trainer.telemetry``: what trainers left behind in shared memory, and how to ship it."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

from protocol.errors import ProtocolError
from trainer.telemetry.link import LoggerLink
from trainer.telemetry.location import outbox_root
from trainer.telemetry.orphan import OrphanedOutbox, find_outboxes
from trainer.telemetry.session import State

_EPILOG = """examples:
  python -m trainer.telemetry status
  python -m trainer.telemetry drain --endpoint tcp://127.0.0.1:5555
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 something is left, 2 wrong usage."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    options = _parser().parse_args(arguments)
    try:
        folders = find_outboxes(options.folder or outbox_root())
        if options.command == "status":
            return _status(folders)
        return max([_drain(folder, options.endpoint, options.seconds) for folder in folders], default=0)
    except (OSError, ValueError, ProtocolError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _status(folders: Sequence[Path]) -> int:
    for folder in folders:
        size = sum(path.stat().st_size for path in folder.iterdir())
        try:
            orphan = OrphanedOutbox(folder)
        except BlockingIOError:
            print(f"{folder}: {size:,} bytes, its trainer runs")
            continue
        except (ProtocolError, OSError) as error:
            print(f"{folder}: {size:,} bytes, unreadable: {error}")
            continue
        print(
            f"{folder}: {size:,} bytes, run {orphan.stream.run}, records {orphan.first_sequence:,} to "
            f"{orphan.next_sequence - 1:,}, its trainer is gone; ship it with: python -m trainer.telemetry drain"
        )
        orphan.close(keep=True)
    if not folders:
        print("nothing is left behind")
    return 0


def _drain(folder: Path, endpoint: str, seconds: float) -> int:
    try:
        orphan = OrphanedOutbox(folder)
    except BlockingIOError:
        print(f"{folder}: its trainer runs and ships it itself")
        return 0
    link = LoggerLink(orphan, endpoint)
    deadline = monotonic() + seconds
    shipped = refused = False
    while not (shipped or refused) and monotonic() < deadline:
        if not link.step(monotonic()) and not link.wait(0.1):
            sleep(0.1)
        shipped = link.session.acked_sequence >= orphan.next_sequence
        refused = link.session.state is State.REFUSED
    link.close()
    orphan.close(keep=not shipped)
    outcome = "shipped" if shipped else f"left: {link.session.reason or f'no logger answered at {endpoint}'}"
    print(f"{folder}: run {orphan.stream.run}, {orphan.next_sequence - orphan.first_sequence:,} records {outcome}")
    return 0 if shipped else 1


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
    drain.add_argument("--endpoint", default="tcp://127.0.0.1:5555", help="the logger's address (default: %(default)s)")
    drain.add_argument("--seconds", type=float, default=60.0, help="give up on an outbox after (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
