"""Numbered records with arbitrary bodies, for tests of recordings."""

from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, pack_record
from tensorboard_sidecar.protocol.stream import Stream

STREAM = Stream("team/demo", 1, 2, bytes(range(16)))


def make_record(sequence: int, *, size_bytes: int = 8, span: int = 1) -> Record:
    """Return a record with a body derived from its number, so that a resent record is equal."""
    body = bytes((sequence + n) % 251 + 1 for n in range(size_bytes))
    return Record(Kind.GAP if span > 1 else Kind.SCALARS, sequence, sequence, sequence, body, span)


def make_run(*records: Record) -> FrameBatch:
    """Return the records as a batch, as a sender ships them."""
    frames = b"".join(pack_frame(pack_record(record)) for record in records)
    return FrameBatch(memoryview(frames), records[0].sequence, records[-1].next_sequence)


def numbered_run(first: int, count: int = 1, *, size_bytes: int = 8) -> FrameBatch:
    """Return a batch of ``count`` records from number ``first`` on."""
    return make_run(*(make_record(n, size_bytes=size_bytes) for n in range(first, first + count)))
