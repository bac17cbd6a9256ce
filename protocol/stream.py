"""The identity of a stream, which a segment, a HELLO and the folder name of a recording carry."""

import secrets
from dataclasses import dataclass, field

from tensorboard_sidecar.protocol.messages import SegmentHead
from tensorboard_sidecar.protocol.names import check_run


@dataclass(frozen=True, slots=True)
class Stream:
    """Identity of the records of one process in one attempt of a run.

    ``id`` is random, 128 bits. ``attempt`` counts the starts of a run from 0, ``rank`` the processes of one start.
    Raises Malformed or TooLarge for a run that :func:`~tensorboard_sidecar.protocol.names.check_run` refuses.
    """

    run: str
    rank: int = 0
    attempt: int = 0
    id: bytes = field(default_factory=lambda: secrets.token_bytes(16))

    def __post_init__(self) -> None:
        check_run(self.run)

    @property
    def folder_name(self) -> str:
        """Folder name of the recording; sorts by attempt, then rank."""
        return f"stream-{self.attempt:04d}-{self.rank:04d}-{self.id.hex()}"

    def segment_head(self, first_sequence: int) -> SegmentHead:
        """Return the segment head for a segment that begins at ``first_sequence``."""
        return SegmentHead(self.id, self.run, self.rank, self.attempt, first_sequence)

    @classmethod
    def of(cls, head: SegmentHead) -> "Stream":
        """Return the stream that a segment head names."""
        return cls(head.run, head.rank, head.attempt, head.stream)
