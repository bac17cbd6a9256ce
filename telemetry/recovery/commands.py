"""``status`` and ``drain``: the records that trainers keep, or left behind, in memory and on disk."""

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Final

from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.destination import NO_LOGGER
from tensorboard_sidecar.protocol.outbox.location import check_private, outbox_root, spill_root
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.key_files import BadKey, ClientKeys, read_client_keys
from tensorboard_sidecar.telemetry.recovery.outbox_status import describe, read_status
from tensorboard_sidecar.telemetry.shipping.endpoint import check_endpoint
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.recorder import RestOfRecording
from tensorboard_sidecar.telemetry.shipping.send_session import State

_WAKE_INTERVAL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class _Way:
    """Where a drain brings things: to the logger at ``endpoint``, within ``seconds``; to recordings below ``record``.

    Where these are None, each goes where its trainer wanted it.
    """

    endpoint: str | None
    keys: ClientKeys | None
    seconds: float
    record: Path | None


def status(options: argparse.Namespace) -> int:
    """List outboxes, one a line; return the exit code: 0 done, 2 wrong usage."""
    return _guarded(options, _list)


def drain(options: argparse.Namespace) -> int:
    """Ship outboxes whose trainer has ended; return the exit code: 0 done, 1 something is left, 2 wrong usage."""
    return _guarded(options, _drain_all)


def _guarded(options: argparse.Namespace, run: Callable[[argparse.Namespace, list[Path]], int]) -> int:
    """Run a command on the outboxes that it concerns; print an expected error as one line, and return 2 for it."""
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        folder = options.folder
        if folder is not None and not folder.is_dir():
            raise NotADirectoryError(f"{folder} is no folder; give an outbox, or a folder of them")
        folders = find_outboxes(folder.absolute()) if folder is not None else find_outboxes(outbox_root(), spill_root())
        if not folders:
            print("nothing is left behind")
        return run(options, folders)
    except (OSError, ValueError, BadKey) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(_options: argparse.Namespace, folders: list[Path]) -> int:
    for folder in folders:
        print(f"{folder}: {_describe(folder)}")
    return 0


def _drain_all(options: argparse.Namespace, folders: list[Path]) -> int:
    keys = read_client_keys(options.server_key, options.client_key)
    if options.endpoint is not None:
        check_endpoint(options.endpoint, keys=keys is not None)
    way = _Way(options.endpoint, keys, options.seconds, options.record and options.record.absolute())
    return max([_drain(folder, way) for folder in folders], default=0)


def _describe(folder: Path) -> str:
    try:
        return describe(read_status(folder, wall_time_ns=time_ns()))
    except (ProtocolError, OSError) as error:
        return f"unreadable: {error}"


def _drain(folder: Path, way: _Way) -> int:
    """Bring an outbox where it is to go, say what came of it in a line, and return an exit code."""
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
    records, done, said = orphan.next_sequence - orphan.first_sequence, False, []
    try:
        for bring in (_record, _ship):
            try:
                if outcome := bring(orphan, way):
                    said.append(outcome)
                    done = orphan.settle(recorded=bring is _record, shipped=bring is _ship)
            except (ProtocolError, LookupError, ValueError, OSError) as error:
                said.append(f"left: {error}")
    finally:
        orphan.close(keep=not done)
    print(f"{folder}: run {orphan.stream.run}, {records:,} records {printable(', '.join(said))}")
    return 0 if done else 1


def _record(orphan: OrphanedOutbox, way: _Way) -> str:
    """Finish an outbox's recording, if it has one; return what was done."""
    record = way.record or orphan.destination.record
    if orphan.destination.record is None and orphan.destination.endpoint != NO_LOGGER:
        return ""
    if record is None:
        raise FileNotFoundError("it is to be recorded, and where is not known; give --record FOLDER")
    if way.record is None:
        check_private(orphan.folder)  # others would else say where we write
    with closing(RestOfRecording(orphan, record, wall_time_ns=time_ns())) as rest:
        while not rest.step():
            continue
    return f"recorded in {rest.folder}"


def _ship(orphan: OrphanedOutbox, way: _Way) -> str:
    """Ship an outbox, if it is for a logger; return what was done. Raises TimeoutError when not all is acknowledged."""
    if orphan.destination.endpoint == NO_LOGGER:
        return ""
    endpoint = way.endpoint or orphan.destination.endpoint or DEFAULT_ENDPOINT
    deadline = monotonic() + way.seconds
    shipped = refused = False
    with closing(LoggerLink(orphan, endpoint, way.keys)) as link:
        while not (shipped or refused) and monotonic() < deadline:
            if not link.step(monotonic()) and not link.wait(_WAKE_INTERVAL_SECONDS):
                sleep(_WAKE_INTERVAL_SECONDS)
            shipped = link.session.acked_sequence >= orphan.next_sequence
            refused = link.session.state is State.REFUSED
    if not shipped:
        reason = link.session.reason or f"no logger answered at {link.endpoint} within {way.seconds:g} seconds"
        raise TimeoutError(reason)
    return "shipped"
