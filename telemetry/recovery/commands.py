"""The commands ``status`` and ``drain``: list the outboxes of trainers, and deliver the outboxes of dead trainers."""

import argparse
import logging
import sys
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from time import monotonic, sleep, time_ns
from typing import Final

from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.outbox import orphan_delivery, outbox_files
from tensorboard_sidecar.protocol.outbox.flight_ring import RING_NAME
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox, find_outboxes
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, outbox_root, spill_root
from tensorboard_sidecar.protocol.outbox.owner_lock import Owner, read_owner
from tensorboard_sidecar.protocol.printable import print_line, printable
from tensorboard_sidecar.protocol.storage.key_files import BadKey, ClientKeys, read_client_keys
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_SUFFIX, SegmentFile, list_segments
from tensorboard_sidecar.telemetry.recovery.helpers import describe_helpers
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink, check_endpoint

_POLL_INTERVAL_SECONDS: Final = 0.01
_LOOKS_MAX: Final = 20  # a running trainer deletes segments during the read


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
        if not folders and run is not _list:
            print_line("nothing is left behind")
        return run(options, folders)
    except (OSError, ValueError, BadKey) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _list(options: argparse.Namespace, folders: list[Path]) -> int:
    helpers = list(describe_helpers()) if options.folder is None else []
    for line in helpers:
        print_line(line)
    for folder in folders:
        try:
            line = describe_outbox(folder, wall_time_ns=time_ns())
        except (ProtocolError, OSError) as error:
            line = f"unreadable: {error}"
        print_line(f"{folder}: {line}")
    if not (helpers or folders):
        print_line("nothing is left behind")
    return 0


def _drain_all(options: argparse.Namespace, folders: list[Path]) -> int:
    keys = read_client_keys(options.server_key, options.client_key)
    if options.endpoint is not None:
        check_endpoint(options.endpoint, keys=keys is not None)
    sinks = (
        orphan_delivery.Sink(partial(_finish, options.record and options.record.absolute()), recording=True),
        orphan_delivery.Sink(partial(_ship, options.endpoint, keys, options.seconds)),
    )
    return max([_drain(folder, sinks) for folder in folders], default=0)


def _drain(folder: Path, sinks: tuple[orphan_delivery.Sink, ...]) -> int:
    """Deliver an outbox, print one line of report, and return an exit code."""
    try:
        delivery = orphan_delivery.OrphanDelivery(orphan_delivery.claim(folder), sinks)
    except orphan_delivery.Unclaimed as unclaimed:
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
    said = [
        outcome if isinstance(outcome, str) else f"left: {orphan_delivery.reason(outcome)}"
        for outcome in delivery.outcomes
    ]
    records = orphan.next_sequence - orphan.first_sequence
    print_line(f"{folder}: run {orphan.stream.run}, {records:,} records {printable(', '.join(said))}")
    return 0 if delivery.settled else 1


def _finish(moved_to: Path | None, orphan: OrphanedOutbox, _now_seconds: float) -> orphan_delivery.Delivery | None:
    """Finish the recording below ``moved_to``, or below the folder that the outbox names."""
    record = moved_to or orphan.destination.record
    if orphan.destination.record is None and orphan.destination.endpoint != NO_LOGGER:
        return None
    if record is None:
        raise FileNotFoundError("it is to be recorded, and where is not known; give --record FOLDER")
    if moved_to is None:
        outbox_files.check_private(orphan.folder)  # otherwise another user could choose the folder to write to
    return orphan_delivery.RecordingDelivery(orphan, record, wall_time_ns=time_ns())


def _ship(
    endpoint: str | None, keys: ClientKeys | None, seconds: float, orphan: OrphanedOutbox, now_seconds: float
) -> orphan_delivery.SessionDelivery | None:
    """Ship to the logger at ``endpoint``, or at the address that the outbox names, within ``seconds``."""
    if orphan.destination.endpoint == NO_LOGGER:
        return None
    link = LoggerLink(orphan, endpoint or orphan.destination.endpoint or DEFAULT_ENDPOINT, keys)
    return orphan_delivery.SessionDelivery(orphan, link, now_seconds, seconds)


def describe_outbox(folder: Path, *, wall_time_ns: int) -> str:
    """Return one line about an outbox, with the command that delivers the outbox if the owner is gone.

    Reads the files, and locks or changes nothing. Raises ProtocolError or OSError when the outbox cannot be read.
    """
    for _ in range(_LOOKS_MAX):
        owner = read_owner(folder)
        with suppress(FileNotFoundError):
            return _look(folder, owner, wall_time_ns)
        if not owner.holds:
            break
    return _look(folder, owner, wall_time_ns)


def _look(folder: Path, owner: Owner, wall_time_ns: int) -> str:
    segments = list_segments(folder)
    spill = outbox_files.read_spill_pointer(folder)
    spilled = list_segments(spill) if spill is not None else []
    if not segments:
        raise Malformed(f"{folder} holds no segments")
    with closing(RecordingReader(folder, next_sequence=segments[-1].first_sequence)) as reader:
        while reader.read_payloads():
            pass
    first_sequence = min([*spilled, *segments]).first_sequence
    next_sequence = max(reader.next_sequence, owner.given_sequence)
    records = f"records {first_sequence:,} to {next_sequence - 1:,}" if next_sequence > first_sequence else "no records"
    holds = f"{_size_bytes(folder):,} bytes"
    if spill is not None:
        holds += f" and {_size_bytes(spill):,} in {spill}"
    destination = outbox_files.read_destination(folder)
    logger = [destination.endpoint] if destination.endpoint not in ("", NO_LOGGER) else []
    recording = [f"its recording in {destination.record}"] if destination.record is not None else []
    run = " for ".join(filter(None, (f"run {reader.stream.run}", printable(" and ".join(logger + recording)))))
    process = f"pid {owner.process_id}" if owner.process_id else "its trainer"
    age = _duration(max(0.0, (wall_time_ns - _oldest_ns([*spilled, *segments])) / 1e9))
    line = f"{process} {'runs' if owner.holds else 'is gone'}, {run}, {records}, {holds}, the oldest of {age} ago"
    finish = "finish it" if destination.endpoint == NO_LOGGER else "ship it"
    return line if owner.holds else f"{line}; {finish} with: tensorboard-sidecar drain {folder}"


def _oldest_ns(segments: Iterable[SegmentFile]) -> int:
    """Return the time of the oldest segment that still exists; raise FileNotFoundError when none exists."""
    for segment in sorted(segments):
        with suppress(FileNotFoundError):
            return segment.path.stat().st_mtime_ns
    raise FileNotFoundError("all segments were deleted during the read")


def _size_bytes(folder: Path) -> int:
    size = 0
    for path in (*folder.glob(f"*{SEGMENT_SUFFIX}"), *folder.glob("*.spare"), folder / RING_NAME):
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def _duration(seconds: float) -> str:
    """Return a duration in its largest unit, rounded down."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds)} seconds"
