"""Outboxes whose trainer is gone: what lies in them is shipped by whoever adopts them."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from protocol.codec import encode_body
from protocol.frame import pack_frame
from protocol.messages import Gap
from protocol.owner_lock import OWNER_LOCK, OwnerLock
from protocol.record import Kind, Record, pack_record, parse_sequence
from protocol.recording_reader import RecordingReader
from protocol.run import Run


class OrphanedOutbox:
    """The outbox in ``folder``, read like a live one; nobody else may adopt it meanwhile.

    Slots that were never filled, and refusals that were never told, are told as gaps. Raises BlockingIOError when its
    trainer lives, Malformed or OSError when the folder is no outbox.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with ExitStack() as undo:
            self._owner = OwnerLock(folder)
            undo.callback(self._owner.close)
            self._reader = RecordingReader(folder)
            undo.callback(self._reader.close)
            self.stream = self._reader.stream
            self.first_sequence = self._reader.first_sequence
            while self._reader.read_payloads():
                pass
            undo.pop_all()
        self._unread_sequence = max(self._reader.next_sequence, self.first_sequence)
        self.next_sequence = max(self._unread_sequence, self._owner.given_sequence)

    def read(self, sequence: int, size_max_bytes: int) -> Run | None:
        """Return records from ``sequence`` on, as :meth:`trainer.telemetry.outbox.Outbox.read` does."""
        if sequence < self.first_sequence:
            raise LookupError(f"sequence {sequence} was released; {self.first_sequence} is the first that is held")
        if self._unread_sequence <= sequence < self.next_sequence:
            return Run(memoryview(pack_lost(sequence, self.next_sequence)), sequence, self.next_sequence)
        if self._reader.next_sequence != sequence:
            self._reader.close()
            self._reader = RecordingReader(self.folder, next_sequence=sequence)
        frames, at = [], sequence
        for payload in self._reader.read_payloads(size_max_bytes):
            _, first, following = parse_sequence(payload)
            if first > at:
                frames.append(pack_lost(at, first))
            frames.append(pack_frame(payload))
            at = following
        return Run(memoryview(b"".join(frames)), sequence, at) if frames else None

    def close(self, *, keep: bool) -> None:
        """Let go of the outbox; delete it unless it is to ``keep``."""
        self._reader.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._owner.close()


def find_outboxes(root: Path) -> list[Path]:
    """Return the folders under ``root``, or ``root`` itself, that are outboxes, by name."""
    return sorted(lock.parent for lock in [*root.glob(OWNER_LOCK), *root.glob(f"*/{OWNER_LOCK}")])


def pack_lost(first_sequence: int, next_sequence: int) -> bytes:
    """Return the frame that stands for records which died with their trainer."""
    body = encode_body(Gap("lost with the trainer: still on a device, or refused by a full outbox"))
    return pack_frame(pack_record(Record(Kind.GAP, first_sequence, 0, 0, body, next_sequence - first_sequence)))
