"""The table of message kinds: one row holds everything that the programs must know of a kind.

Both sides look kinds up here: the codec (message type, check, decoding), the outbox of a trainer (share of the
capacity), the projection (what shows something, what is slow to draw) and everything that prints a name. A row has no
optional field, so that every decision is made for every kind; ``tests/protocol/test_kinds.py`` compares the rows with
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


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageKind(Generic[M]):
    """Everything about one kind.

    - ``kind``: the number in the header of the record, and the name.
    - ``message_type``: the type of the body.
    - ``check``: raises Malformed or TooLarge for a message that breaks a rule.
    - ``outbox_share``: the share of the outbox up to which records of this kind are taken, above 0 and at most 1. Large
      records that a run can miss have the smallest share, so that they are refused first.
    - ``shows``: whether a record of the kind shows something of a run in TensorBoard. The projection of a stream begins
      with the first such record; until then an attempt leaves the event files of earlier attempts alone.
    - ``picture``: whether the logger draws a picture of the message. Pictures are slow, and counted as drawings.
    - ``decoded_in_pieces``: whether a limit bounds all items of the message together, beside the limits on each item.
      The decoder then decodes item by item, and stops at this limit; ``protocol.codec`` has a function for each such
      kind.
    """

    kind: Kind
    message_type: type[M]
    check: Callable[[M], None]
    outbox_share: float
    shows: bool
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
    MessageKind(
        kind=Kind.SEGMENT,
        message_type=messages.SegmentHead,
        check=checks.check_segment_head,
        outbox_share=1.0,
        shows=False,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.RUN_START,
        message_type=messages.RunStart,
        check=checks.check_run_start,
        outbox_share=1.0,
        shows=False,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.SCALARS,
        message_type=messages.Scalars,
        check=checks.check_scalars,
        outbox_share=0.95,
        shows=True,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.TENSOR_SUMMARIES,
        message_type=messages.TensorSummaries,
        check=checks.check_tensor_summaries,
        outbox_share=0.80,
        shows=True,
        picture=True,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.MATRIX,
        message_type=messages.Matrix,
        check=checks.check_matrix,
        outbox_share=0.70,
        shows=True,
        picture=True,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.IMAGES,
        message_type=messages.Images,
        check=checks.check_images,
        outbox_share=0.70,
        shows=True,
        picture=True,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.TEXT,
        message_type=messages.Text,
        check=checks.check_text,
        outbox_share=0.80,
        shows=True,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.AUDIO,
        message_type=messages.Audio,
        check=checks.check_audio,
        outbox_share=0.70,
        shows=True,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.EMBEDDING,
        message_type=messages.Embedding,
        check=checks.check_embedding,
        outbox_share=0.80,
        shows=True,
        picture=True,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.GRAPH,
        message_type=messages.Graph,
        check=checks.check_graph,
        outbox_share=1.0,
        shows=True,
        picture=False,
        decoded_in_pieces=True,
    ),
    MessageKind(
        kind=Kind.LAYOUT,
        message_type=messages.Layout,
        check=checks.check_layout,
        outbox_share=1.0,
        shows=True,
        picture=False,
        decoded_in_pieces=True,
    ),
    MessageKind(
        kind=Kind.HPARAMS,
        message_type=messages.HParams,
        check=checks.check_hparams,
        outbox_share=1.0,
        shows=True,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.GAP,
        message_type=messages.Gap,
        check=checks.check_gap,
        outbox_share=1.0,
        shows=True,
        picture=False,
        decoded_in_pieces=False,
    ),
    MessageKind(
        kind=Kind.RUN_END,
        message_type=messages.RunEnd,
        check=checks.check_run_end,
        outbox_share=1.0,
        shows=False,
        picture=False,
        decoded_in_pieces=False,
    ),
)
PICTURES: Final[tuple[type[Message], ...]] = tuple(row.message_type for row in KINDS if row.picture)
SILENT: Final = frozenset(int(row.kind) for row in KINDS if not row.shows)
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
