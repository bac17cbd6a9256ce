"""What can be said: a closed set of frozen types, one for each kind of record.

The record's header carries sequence, step and wall time; a message carries the rest. New fields come last and have
defaults; readers ignore fields they do not know. A message is checked by ``protocol.checks.check_message`` on its
way out of a decoder; the types alone promise the shape of the data, and lists and maps no longer than their limits.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from tensorboard_sidecar.protocol.array import Array
from tensorboard_sidecar.protocol.limits import (
    ARRAY_DIMENSIONS_MAX,
    CLIPS_MAX,
    EMBEDDING_COLUMNS_MAX,
    EMBEDDING_ROWS_MAX,
    GRAPH_NODE_LINKS_MAX,
    GRAPH_NODES_MAX,
    IMAGES_MAX,
    KINDS_MAX,
    LAYOUT_CHARTS_MAX,
    TAGS_MAX,
)

ParameterValue: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Annotated[dict[str, ParameterValue], Meta(max_length=TAGS_MAX)]
Values: TypeAlias = Annotated[dict[str, float], Meta(max_length=TAGS_MAX)]
Cells: TypeAlias = Annotated[list[str], Meta(max_length=EMBEDDING_COLUMNS_MAX)]
Links: TypeAlias = Annotated[list[str], Meta(max_length=GRAPH_NODE_LINKS_MAX)]
Dimensions: TypeAlias = Annotated[list[int], Meta(max_length=ARRAY_DIMENSIONS_MAX)]


class SegmentHead(msgspec.Struct, frozen=True):
    """First record of every segment: whose records follow, so that a segment explains itself."""

    stream: bytes
    run: str
    rank: int
    attempt: int
    first_sequence: int


class RunStart(msgspec.Struct, frozen=True):
    """First record of a stream. ``first_step`` is the last step of earlier attempts that stands (0 for a new run)."""

    first_step: int = 0
    config: Parameters = {}


class Scalars(msgspec.Struct, frozen=True):
    """Values of one step by tag."""

    values: Values


class TensorSummary(msgspec.Struct, frozen=True):
    """What is kept of a tensor: counts, moments, and a sparse histogram over the float's own bits.

    ``minimum``, ``maximum``, ``sum`` and ``sum_squares`` are over the finite values (all 0.0 when there is none). A
    bucket index is the leading ``9 + mantissa_bits`` bits of the IEEE binary32 pattern: sign, exponent, first mantissa
    bits. ``indexes`` (uint16, ascending) are the occupied buckets of finite values but zeros, ``counts`` (uint64) how
    many each holds. ``zeros`` counts the two buckets around zero (with 3 mantissa bits: below 1.5e-39 in magnitude).
    """

    count: int
    zeros: int
    nans: int
    positive_infinities: int
    negative_infinities: int
    minimum: float
    maximum: float
    sum: float
    sum_squares: float
    mantissa_bits: int
    indexes: Array
    counts: Array


class TensorSummaries(msgspec.Struct, frozen=True):
    """Summaries of one step by tag."""

    summaries: Annotated[dict[str, TensorSummary], Meta(max_length=TAGS_MAX)]


class Matrix(msgspec.Struct, frozen=True):
    """A matrix to draw as a heatmap: float16 or float32 ``[rows, columns]``; ``value_range`` None means its own."""

    tag: str
    values: Array
    title: str = ""
    row_label: str = ""
    column_label: str = ""
    value_range: tuple[float, float] | None = None


class Images(msgspec.Struct, frozen=True):
    """Pictures: uint8 ``[N, H, W, C]`` with C of 1, 3 or 4; ``captions`` is empty or one a picture."""

    tag: str
    images: Array
    captions: Annotated[list[str], Meta(max_length=IMAGES_MAX)] = []


class Text(msgspec.Struct, frozen=True):
    """Markdown."""

    tag: str
    text: str


class Audio(msgspec.Struct, frozen=True):
    """Sound clips: int16 ``[frames, channels]`` each; ``captions`` is empty or one a clip."""

    tag: str
    clips: Annotated[list[Array], Meta(max_length=CLIPS_MAX)]
    sample_rate_hz: int
    captions: Annotated[list[str], Meta(max_length=CLIPS_MAX)] = []


class Embedding(msgspec.Struct, frozen=True):
    """Points for the projector: float32 ``[N, D]``, a row of cells each, thumbnails uint8 ``[N, H, W, 3]`` or None."""

    tag: str
    vectors: Array
    columns: Cells = []
    rows: Annotated[list[Cells], Meta(max_length=EMBEDDING_ROWS_MAX)] = []
    thumbnails: Array | None = None


class GraphNode(msgspec.Struct, frozen=True):
    """One box of the model graph; ``/`` in names makes the hierarchy, ``inputs`` are names of other nodes."""

    name: str
    operation: str
    inputs: Links = []
    output_shapes: Annotated[list[Dimensions], Meta(max_length=GRAPH_NODE_LINKS_MAX)] = []
    attributes: Annotated[dict[str, str], Meta(max_length=GRAPH_NODE_LINKS_MAX)] = {}


class Graph(msgspec.Struct, frozen=True):
    """The model's architecture."""

    nodes: Annotated[list[GraphNode], Meta(max_length=GRAPH_NODES_MAX)]


class Chart(msgspec.Struct, frozen=True):
    """One chart of a custom layout: ``tags`` are regular expressions (multiline) or (value, lower, upper) (margin)."""

    kind: Literal["multiline", "margin"]
    tags: Annotated[list[str], Meta(max_length=LAYOUT_CHARTS_MAX)]


Charts: TypeAlias = Annotated[dict[str, Chart], Meta(max_length=LAYOUT_CHARTS_MAX)]


class Layout(msgspec.Struct, frozen=True):
    """TensorBoard's custom scalars: chart by title by category."""

    categories: Annotated[dict[str, Charts], Meta(max_length=LAYOUT_CHARTS_MAX)]


class HParams(msgspec.Struct, frozen=True):
    """Hyperparameters of a run, and the metrics it ended with."""

    parameters: Parameters
    metrics: Values


class Gap(msgspec.Struct, frozen=True):
    """Records that were refused or lost: how many of which kind (by name), and why.

    The record's header says which sequence numbers: ``sequence`` and ``span``.
    """

    reason: str
    kinds: Annotated[dict[str, int], Meta(max_length=KINDS_MAX)] = {}


class RunEnd(msgspec.Struct, frozen=True):
    """Last record of a stream."""

    status: Literal["completed", "failed", "interrupted"]


Message: TypeAlias = (
    SegmentHead
    | RunStart
    | Scalars
    | TensorSummaries
    | Matrix
    | Images
    | Text
    | Audio
    | Embedding
    | Graph
    | Layout
    | HParams
    | Gap
    | RunEnd
)
