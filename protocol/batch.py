"""A run of whole framed records, checked as it arrives and before it is kept.

Only heads and headers are read. A run is taken whole or refused whole: a peer that sends one bad record in it has no
claim on the rest, and go-back-N brings the good ones again.
"""

from dataclasses import dataclass

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import Damage, Frame, read_frame
from tensorboard_sidecar.protocol.limits import RECORD_SIZE_MAX_BYTES
from tensorboard_sidecar.protocol.record import Kind, parse_sequence


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames that stand for the sequence numbers ``[first_sequence, next_sequence)``, byte for byte as they came."""

    frames: memoryview
    first_sequence: int
    next_sequence: int


@dataclass(frozen=True, slots=True)
class Hole:
    """A run that begins after ``expected_sequence``: something before it was lost on the way."""

    expected_sequence: int


def check_batch(
    frames: memoryview, expected_sequence: int, *, record_size_max_bytes: int = RECORD_SIZE_MAX_BYTES
) -> FrameBatch | Hole:
    """Check every frame, and that sequence numbers go on without a hole; drop what was received before.

    An empty :class:`Run` is the answer to records that all came before. Raises Malformed or UnsupportedVersion.
    """
    offset, kept_from, following = 0, 0, None
    while offset < len(frames):
        frame = read_frame(frames, offset, payload_size_max_bytes=record_size_max_bytes, resynchronise=False)
        if not isinstance(frame, Frame):
            reason = frame.reason if isinstance(frame, Damage) else "cut off, or zeros"
            raise Malformed(f"no whole frame at byte {offset:,} of a run of {len(frames):,}: {reason}")
        kind, sequence, next_sequence = parse_sequence(frame.payload)
        if kind == Kind.SEGMENT:
            raise Malformed("a segment head in a run; every recording writes its own")
        if following not in (None, sequence):
            raise Malformed(f"sequence {sequence} follows where {following} is due, in one run")
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
