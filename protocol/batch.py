"""A batch of whole framed records, checked when received and before being kept.

Only frame heads and record headers are read. A batch is accepted as a whole or refused as a whole: one bad record
refuses the good records beside it, and go-back-N sends the good records again.
"""

from dataclasses import dataclass

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import Damage, Frame, read_frame
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import Kind, parse_sequence


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames of the sequence numbers ``[first_sequence, next_sequence)``, byte for byte as received."""

    frames: memoryview
    first_sequence: int
    next_sequence: int


@dataclass(frozen=True, slots=True)
class Hole:
    """The batch begins after ``expected_sequence``: records before the batch were lost on the way."""

    expected_sequence: int


def check_batch(
    frames: memoryview, expected_sequence: int, *, record_size_max_bytes: int = RECORD_SIZE_MAX_BYTES
) -> FrameBatch | Hole:
    """Check every frame, and that sequence numbers are consecutive; drop the records before ``expected_sequence``.

    Returns an empty :class:`FrameBatch` when all records were received before. Raises Malformed or UnsupportedVersion.
    """
    offset, kept_from, following = 0, 0, None
    while offset < len(frames):
        frame = read_frame(frames, offset, payload_size_max_bytes=record_size_max_bytes, resynchronise=False)
        if not isinstance(frame, Frame):
            reason = frame.reason if isinstance(frame, Damage) else "cut off, or zeros"
            raise Malformed(f"no whole frame at byte {offset:,} of a batch of {len(frames):,}: {reason}")
        kind, sequence, next_sequence = parse_sequence(frame.payload)
        if kind == Kind.SEGMENT:
            raise Malformed("a segment head in a batch; every recording writes its own segment heads")
        if following not in (None, sequence):
            raise Malformed(f"sequence {sequence} follows in a batch; expected {following}")
        following, offset = next_sequence, frame.end
        if sequence < expected_sequence < next_sequence:
            raise Malformed(
                f"a gap over {sequence} to {next_sequence - 1} covers {expected_sequence - 1}, already kept"
            )
        if sequence < expected_sequence:
            kept_from = offset
        elif frame.start == 0 and sequence > expected_sequence:
            return Hole(expected_sequence)
    return FrameBatch(frames[kept_from:], expected_sequence, max(expected_sequence, following or 0))
