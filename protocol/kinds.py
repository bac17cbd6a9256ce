"""The table of message kinds: one row holds everything that the programs must know of a kind.

Both sides look kinds up here: the codec (message type, check, decoding), the outbox of a trainer (share of the
capacity), the projection (pictures are slow to draw) and everything that prints a name. A row has no optional field, so
that every decision is made for every kind; ``tests/protocol/test_kinds.py`` compares the rows with
:class:`~tensorboard_sidecar.protocol.record.Kind` and with the union ``Message``.

A number without a row belongs to a newer program: :func:`find_kind` returns None, and readers skip and count such
records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from tensorboard_sidecar.protocol import checks, messages
from tensorboard_sidecar.protocol.messages import Message
from tensorboard_sidecar.protocol.record import Kind

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class MessageKind(Generic[M]):
    """Everything about one kind.

    - ``kind``: the number in the header of the record, and the name.
    - ``message_type``: the type of the body.
    - ``check``: raises Malformed or TooLarge for a message that breaks a rule.
    - ``outbox_share``: the share of the outbox up to which records of this kind are taken, above 0 and at most 1. Large
      records that a run can miss have the smallest share, so that they are refused first.
    - ``picture``: whether the logger draws a picture of the message. Pictures are slow, and counted as drawings.
    - ``decoded_in_pieces``: whether a limit bounds all items of the message together, beside the limits on each item.
      The decoder then decodes item by item, and stops at this limit; ``protocol.codec`` has a function for each such
      kind.
    """

    kind: Kind
    message_type: type[M]
    check: Callable[[M], None]
    outbox_share: float
    picture: bool
    decoded_in_pieces: bool

    @property
    def name(self) -> str:
        """The name that a Gap uses: ``tensor_summaries``."""
        return self.kind.name.lower()

    @property
    def title(self) -> str:
        """The name for people: ``tensor summaries``."""
        return self.name.replace("_", " ")


KINDS: Final[tuple[MessageKind[Any], ...]] = (
    # kind, type of the message, check, share of the outbox, picture, decoded in pieces
    MessageKind(Kind.SEGMENT, messages.SegmentHead, checks.check_segment_head, 1.00, False, False),
    MessageKind(Kind.RUN_START, messages.RunStart, checks.check_run_start, 1.00, False, False),
    MessageKind(Kind.SCALARS, messages.Scalars, checks.check_scalars, 0.95, False, False),
    MessageKind(Kind.TENSOR_SUMMARIES, messages.TensorSummaries, checks.check_tensor_summaries, 0.80, True, False),
    MessageKind(Kind.MATRIX, messages.Matrix, checks.check_matrix, 0.70, True, False),
    MessageKind(Kind.IMAGES, messages.Images, checks.check_images, 0.70, True, False),
    MessageKind(Kind.TEXT, messages.Text, checks.check_text, 0.80, False, False),
    MessageKind(Kind.AUDIO, messages.Audio, checks.check_audio, 0.70, False, False),
    MessageKind(Kind.EMBEDDING, messages.Embedding, checks.check_embedding, 0.80, True, False),
    MessageKind(Kind.GRAPH, messages.Graph, checks.check_graph, 1.00, False, True),
    MessageKind(Kind.LAYOUT, messages.Layout, checks.check_layout, 1.00, False, True),
    MessageKind(Kind.HPARAMS, messages.HParams, checks.check_hparams, 1.00, False, False),
    MessageKind(Kind.GAP, messages.Gap, checks.check_gap, 1.00, False, False),
    MessageKind(Kind.RUN_END, messages.RunEnd, checks.check_run_end, 1.00, False, False),
)
PICTURES: Final[tuple[type[Message], ...]] = tuple(row.message_type for row in KINDS if row.picture)
_BY_NUMBER: Final = {int(row.kind): row for row in KINDS}
_BY_TYPE: Final = {row.message_type: row for row in KINDS}


def find_kind(number: int) -> MessageKind[Any] | None:
    """Return the row of a kind by its number; None for the kind of a newer program.

    >>> find_kind(3).title, find_kind(200)
    ('tensor summaries', None)
    """
    return _BY_NUMBER.get(number)


def kind_of(message: Message) -> Kind:
    """Return the kind of the record that carries ``message``."""
    return _BY_TYPE[type(message)].kind


def check_message(message: Message) -> None:
    """Check everything beyond the types. Raises Malformed or TooLarge with field, value and rule."""
    _BY_TYPE[type(message)].check(message)
