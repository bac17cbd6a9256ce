"""Reads outboxes whose trainer is gone. The process that claims such an orphan ships or records its contents."""

import errno
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar.protocol.outbox.flight_ring import read_burst
from tensorboard_sidecar.protocol.outbox.owner_lock import OWNER_LOCK, OwnerLock
from tensorboard_sidecar.protocol.record import HEADER, FrameBatch, Kind, Record, pack_record, parse_sequence
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import list_segments

_LOST: Final = "lost with the trainer: still on a device, or refused by a full outbox"


class OrphanedOutbox:
    """The outbox in ``folder`` and its spilled segments, read like a live outbox. Holds the owner's lock until closed.

    Slots that the trainer never filled, and refusals that the trainer never reported, are read as gap records. A
    segment that lies in memory and on disk is read once. A spill folder whose outbox is gone (memory is lost when a
    machine restarts) is an outbox by itself. What the flight ring holds and the trainer has not shipped follows as a
    burst. ``destination`` names the logger and the recording. Opening reads the last segment; the other segments are
    read on demand.

    Raises BlockingIOError when another process holds the lock, FileNotFoundError when a kill interrupted the removal
    of the outbox (the remains are deleted here) or when the spill folder is missing, Malformed or OSError when the
    folder is not an outbox.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with ExitStack() as undo:
            owner = OwnerLock(folder)
            undo.callback(owner.close)
            self._owners = [owner]
            segments = list_segments(folder)
            self._spill = outbox_files.read_spill_pointer(folder)
            if self._spill is not None:
                self._owners.append(OwnerLock(self._spill))
                undo.callback(self._owners[-1].close)
            elif not segments:
                outbox_files.remove_outbox(owner)
                raise FileNotFoundError(errno.ENOENT, "nothing is left of the outbox", str(folder))
            self.destination = outbox_files.read_destination(folder)
            last_sequence = max((segment.first_sequence for segment in segments), default=1)
            self._reader = RecordingReader(folder, next_sequence=last_sequence)
            undo.callback(self._reader.close)
            self.stream = self._reader.stream
            self.first_sequence = self._memory_sequence = self._reader.first_sequence
            while self._reader.read_payloads():
                pass
            self._burst = read_burst(folder, max(self._reader.next_sequence, owner.given_sequence))
            self.next_sequence = self._burst.next_sequence
            if self._spill is not None:
                self._begin_with_spill(self._spill)
            undo.pop_all()

    def read(self, sequence: int, size_max_bytes: int) -> FrameBatch | None:
        """Return records from ``sequence`` on, None at the end; raise LookupError for released records, OSError."""
        if sequence < self.first_sequence:
            raise LookupError(f"sequence {sequence} was released; {self.first_sequence} is the first that is held")
        if sequence >= self._burst.first_sequence:
            return self._burst.read(sequence, size_max_bytes)
        end_sequence = self._memory_sequence if sequence < self._memory_sequence else self._burst.first_sequence
        payloads = self._reader_at(sequence).read_payloads(size_max_bytes)
        frames, at = frame_payloads(payloads, sequence, end_sequence, _LOST)
        if not frames and at < end_sequence:
            frames, at = [pack_lost(at, end_sequence, _LOST)], end_sequence
        return FrameBatch(memoryview(b"".join(frames)), sequence, at) if frames else None

    def settle(self, *, shipped: bool = False, recorded: bool = False) -> bool:
        """Mark the orphan as shipped or recorded; return whether no destination is left. Raises OSError."""
        rest = replace(
            self.destination,
            endpoint=outbox_files.NO_LOGGER if shipped else self.destination.endpoint,
            record=None if recorded else self.destination.record,
        )
        if not rest.settled:
            for folder in filter(None, (self.folder, self._spill)):
                outbox_files.write_destination(folder, rest)
            self.destination = rest
        return rest.settled

    def close(self, *, keep: bool) -> None:
        """Release the locks; delete the outbox and its spilled segments unless ``keep``."""
        self._reader.close()
        if not keep:
            if self._spill is not None:
                outbox_files.remove_spill(self.folder, self._owners[-1])
            outbox_files.remove_outbox(self._owners[0])
        for owner in self._owners:
            owner.close()

    def _begin_with_spill(self, spill: Path) -> None:
        """Read spilled segments first, then the segments in memory. Raises Malformed for another stream's segments."""
        spilled = [found.first_sequence for found in list_segments(spill)]
        if not spilled:
            return
        beyond = [found.first_sequence for found in list_segments(self.folder) if found.first_sequence > spilled[-1]]
        if not beyond:  # the last segment is never spilled: these segments belong to another outbox
            return
        reader = RecordingReader(spill, next_sequence=spilled[0])
        reader.close()
        if reader.stream.id != self.stream.id:
            raise Malformed(f"{spill} holds stream {reader.stream.id.hex()}, {self.folder} {self.stream.id.hex()}")
        self.first_sequence, self._memory_sequence = spilled[0], beyond[0]

    def _reader_at(self, sequence: int) -> RecordingReader:
        folder = self._spill if self._spill is not None and sequence < self._memory_sequence else self.folder
        if self._reader.folder != folder or self._reader.next_sequence != sequence:
            reader = RecordingReader(folder, next_sequence=sequence)
            self._reader.close()
            self._reader = reader
        return self._reader


def find_outboxes(*roots: Path) -> list[Path]:
    """Return the sorted folders of the outboxes below ``roots``. A root may be an outbox itself, or an --outbox_dir.

    A spill folder whose outbox still exists is a part of that outbox, and is not listed.
    """
    patterns = (OWNER_LOCK, f"*/{OWNER_LOCK}", f"tensorboard-sidecar-*/*/{OWNER_LOCK}")
    found = {lock.parent for root in roots for pattern in patterns for lock in root.glob(pattern)}
    return sorted(folder for folder in found if not outbox_files.is_part_of_outbox(folder))


def frame_payloads(
    payloads: Iterable[memoryview], sequence: int, end_sequence: int, reason: str
) -> tuple[list[bytes], int]:
    """Return frames for the records in ``[sequence, end_sequence)``, and the sequence number after the last frame.

    Missing records become gap records with ``reason``.
    """
    frames = []
    before: memoryview | None = None
    for payload in payloads:
        _, first, following = parse_sequence(payload)
        if first >= end_sequence:
            break
        if following <= sequence:
            continue
        if first > sequence:
            frames.append(pack_lost(sequence, first, reason, before))
        if first < sequence:  # ``sequence`` lies inside a gap record
            frames.append(pack_lost(sequence, following, reason, before))
        else:
            frames.append(pack_frame(payload))
        sequence, before = following, payload
    return frames, sequence


def pack_lost(first_sequence: int, next_sequence: int, reason: str, before: memoryview | None = None) -> bytes:
    """Return the frame of a gap record with ``reason``; step and time are those of the record ``before`` the gap."""
    body = encode_body(Gap(reason))
    step, wall_time_ns = (0, 0) if before is None else HEADER.unpack_from(before)[-2:]
    gap = Record(Kind.GAP, first_sequence, step, wall_time_ns, body, next_sequence - first_sequence)
    return pack_frame(pack_record(gap))
