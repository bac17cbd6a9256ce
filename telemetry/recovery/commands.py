"""The commands ``status`` and ``drain``: list the outboxes of trainers, and deliver the outboxes of dead trainers."""

import argparse
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Final

from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.location import check_private, outbox_root, spill_root
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.orphan_delivery import (
    OrphanDelivery,
    SessionDelivery,
    Sink,
    Unclaimed,
    claim,
    reason,
)
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER
from tensorboard_sidecar.protocol.printable import print_line, printable
from tensorboard_sidecar.protocol.storage.key_files import BadKey, ClientKeys, read_client_keys
from tensorboard_sidecar.telemetry.recovery.outbox_status import describe, read_status
from tensorboard_sidecar.telemetry.shipping.endpoint import check_endpoint
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import RecordingDelivery

_POLL_INTERVAL_SECONDS: Final = 0.01


def status(options: argparse.Namespace) -> int:
    """List outboxes, one per line; return the exit code: 0 done, 2 wrong usage."""
    return _guarded(options, _list)


def drain(options: argparse.Namespace) -> int:
    """Deliver the outboxes of dead trainers; return the exit code: 0 done, 1 something is left, 2 wrong usage."""
    return _guarded(options, _drain_all)


def _guarded(options: argparse.Namespace, run: Callable[[argparse.Namespace, list[Path]], int]) -> int:
    """Run a command on the outboxes below ``options.folder``; on an expected error, print one line and return 2."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        folder = options.folder
        if folder is not None and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; give an outbox, or a folder of them")
        folders = find_outboxes(folder.absolute()) if folder is not None else find_outboxes(outbox_root(), spill_root())
        if not folders:
            print_line("nothing is left behind")
        return run(options, folders)
    except (OSError, ValueError, BadKey) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(_options: argparse.Namespace, folders: list[Path]) -> int:
    for folder in folders:
        print_line(f"{folder}: {_describe(folder)}")
    return 0


def _drain_all(options: argparse.Namespace, folders: list[Path]) -> int:
    keys = read_client_keys(options.server_key, options.client_key)
    if options.endpoint is not None:
        check_endpoint(options.endpoint, keys=keys is not None)
    sinks = (
        Sink(partial(_finish, options.record and options.record.absolute()), recording=True),
        Sink(partial(_ship, options.endpoint, keys, options.seconds)),
    )
    return max([_drain(folder, sinks) for folder in folders], default=0)


def _describe(folder: Path) -> str:
    try:
        return describe(read_status(folder, wall_time_ns=time_ns()))
    except (ProtocolError, OSError) as error:
        return f"unreadable: {error}"


def _drain(folder: Path, sinks: tuple[Sink, ...]) -> int:
    """Deliver an outbox, print one line of report, and return an exit code."""
    try:
        delivery = OrphanDelivery(claim(folder), sinks)
    except Unclaimed as unclaimed:
        print_line(f"{folder}: {unclaimed}")
        return 0
    except (ProtocolError, OSError) as error:
        print_line(f"{folder}: left, unreadable: {error}")
        return 1
    orphan = delivery.orphan
    try:
        while not delivery.ended:
            if not delivery.step(monotonic()):
                sleep(_POLL_INTERVAL_SECONDS)
    finally:
        delivery.close()
    said = [outcome if isinstance(outcome, str) else f"left: {reason(outcome)}" for outcome in delivery.outcomes]
    records = orphan.next_sequence - orphan.first_sequence
    print_line(f"{folder}: run {orphan.stream.run}, {records:,} records {printable(', '.join(said))}")
    return 0 if delivery.settled else 1


def _finish(moved_to: Path | None, orphan: OrphanedOutbox, _now_seconds: float) -> RecordingDelivery | None:
    """Finish the recording below ``moved_to``, or below the folder that the outbox names."""
    record = moved_to or orphan.destination.record
    if orphan.destination.record is None and orphan.destination.endpoint != NO_LOGGER:
        return None
    if record is None:
        raise FileNotFoundError("it is to be recorded, and where is not known; give --record FOLDER")
    if moved_to is None:
        check_private(orphan.folder)  # otherwise another user could choose the folder to write to
    return RecordingDelivery(orphan, record, wall_time_ns=time_ns())


def _ship(
    endpoint: str | None, keys: ClientKeys | None, seconds: float, orphan: OrphanedOutbox, now_seconds: float
) -> SessionDelivery | None:
    """Ship to the logger at ``endpoint``, or at the address that the outbox names, within ``seconds``."""
    if orphan.destination.endpoint == NO_LOGGER:
        return None
    link = LoggerLink(orphan, endpoint or orphan.destination.endpoint or DEFAULT_ENDPOINT, keys)
    return SessionDelivery(orphan, link, now_seconds, seconds)
