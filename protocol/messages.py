"""The messages: a closed set of frozen types, one for each kind of record.

The header of a record carries sequence, step and wall time; the message carries the rest. New fields come last and have
defaults; readers ignore fields they do not know. The types bound the shape of the data and the length of every list and
map. :func:`tensorboard_sidecar.protocol.kinds.check_message` checks the rest.

A new message type also needs a row in ``protocol.kinds``. A message type inherits from :class:`UserMessage` when its
record carries values that a user logged, and from ``msgspec.Struct`` alone when the record describes the stream itself.
"""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.array import Array

ParameterValue: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Annotated[dict[str, ParameterValue], Meta(max_length=limits.TAGS_MAX)]
Domain: TypeAlias = Annotated[list[ParameterValue], Meta(max_length=limits.DOMAIN_VALUES_MAX)]
Values: TypeAlias = Annotated[dict[str, float], Meta(max_length=limits.TAGS_MAX)]
Cells: TypeAlias = Annotated[list[str], Meta(max_length=limits.EMBEDDING_COLUMNS_MAX)]
Links: TypeAlias = Annotated[list[str], Meta(max_length=limits.GRAPH_NODE_LINKS_MAX)]
Dimensions: TypeAlias = Annotated[list[int], Meta(max_length=limits.ARRAY_DIMENSIONS_MAX)]


class UserMessage(msgspec.Struct, frozen=True):
    """Base of the messages that carry values a user logged; all other messages describe the stream itself."""


class SegmentHead(msgspec.Struct, frozen=True):
    """First record of every segment: names the stream, so that a segment can be read without its folder."""

    stream: bytes
    run: str
    rank: int
    attempt: int
    first_sequence: int


class RunStart(msgspec.Struct, frozen=True):
    """First record of a stream. ``first_step`` is the last step of earlier attempts that stands (0 for a new run).

    With ``continues``, all steps of earlier attempts stand, whatever ``first_step`` is. ``file_suffix`` ends the names
    of the stream's event files.
    """

    first_step: int = 0
    config: Parameters = {}
    continues: bool = False
    file_suffix: str = ""


class Scalars(UserMessage, frozen=True):
    """Values of one step by tag."""

    values: Values


class TensorSummary(msgspec.Struct, frozen=True):
    """Statistics of one tensor: counts, moments, and a sparse histogram over the bits of its floats.

    ``minimum``, ``maximum``, ``sum`` and ``sum_squares`` are over the finite values (all 0.0 without finite values). A
    bucket index is the leading ``9 + mantissa_bits`` bits of the IEEE binary32 pattern: sign, exponent, first mantissa
    bits. ``indexes`` (uint16, ascending) are the occupied buckets of the finite values except zeros; ``counts``
    (uint64) is the number of values in each bucket. ``zeros`` counts the values in the two buckets around zero (with 3
    mantissa bits: magnitudes below 1.5e-39).
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


class TensorSummaries(UserMessage, frozen=True):
    """Summaries of one step by tag."""

    summaries: Annotated[dict[str, TensorSummary], Meta(max_length=limits.TAGS_MAX)]


class Matrix(UserMessage, frozen=True):
    """A heatmap as numbers: float16 or float32 ``[rows, columns]``.

    ``value_range`` is the pair of values at the two ends of the colours; None takes the range of the matrix.
    """

    tag: str
    values: Array
    title: str = ""
    row_label: str = ""
    column_label: str = ""
    value_range: tuple[float, float] | None = None


class Images(UserMessage, frozen=True):
    """Pictures: uint8 ``[N, H, W, C]`` with C of 1, 3 or 4; ``captions`` is empty or has one caption a picture."""

    tag: str
    images: Array
    captions: Annotated[list[str], Meta(max_length=limits.IMAGES_MAX)] = []


class Text(UserMessage, frozen=True):
    """Markdown."""

    tag: str
    text: str


class Audio(UserMessage, frozen=True):
    """Sound clips: int16 ``[frames, channels]`` each; ``captions`` is empty or has one caption a clip.

    A clip that is ``single`` is shown as torch's ``SummaryWriter`` writes it, as a summary of one sound.
    """

    tag: str
    clips: Annotated[list[Array], Meta(max_length=limits.CLIPS_MAX)]
    sample_rate_hz: int
    captions: Annotated[list[str], Meta(max_length=limits.CLIPS_MAX)] = []
    single: bool = False


class Embedding(UserMessage, frozen=True):
    """Points for the embedding projector: float32 ``[N, D]``.

    ``rows`` is empty or has N rows with a cell for each of ``columns``; ``thumbnails`` is uint8 ``[N, H, W, 3]`` or
    None. An embedding that is too large for one record travels in parts: consecutive messages of one tag and step, each
    with the points ``[first_row, first_row + N)`` of ``row_count``. A ``row_count`` of 0 means that the message holds
    all points.
    """

    tag: str
    vectors: Array
    columns: Cells = []
    rows: Annotated[list[Cells], Meta(max_length=limits.EMBEDDING_ROWS_MAX)] = []
    thumbnails: Array | None = None
    first_row: int = 0
    row_count: int = 0


class GraphNode(msgspec.Struct, frozen=True):
    """One node of the model graph; ``/`` in names makes the hierarchy, ``inputs`` are names of other nodes."""

    name: str
    operation: str
    inputs: Links = []
    output_shapes: Annotated[list[Dimensions], Meta(max_length=limits.GRAPH_NODE_LINKS_MAX)] = []
    attributes: Annotated[dict[str, str], Meta(max_length=limits.GRAPH_NODE_LINKS_MAX)] = {}


class Graph(UserMessage, frozen=True):
    """The architecture of the model."""

    nodes: Annotated[list[GraphNode], Meta(max_length=limits.GRAPH_NODES_MAX)]


class Chart(msgspec.Struct, frozen=True):
    """One chart of a custom layout: ``tags`` are regular expressions (multiline) or (value, lower, upper) (margin)."""

    kind: Literal["multiline", "margin"]
    tags: Annotated[list[str], Meta(max_length=limits.LAYOUT_CHARTS_MAX)]


Charts: TypeAlias = Annotated[dict[str, Chart], Meta(max_length=limits.LAYOUT_CHARTS_MAX)]


class Layout(UserMessage, frozen=True):
    """TensorBoard's custom scalars: categories of charts, each by title."""

    categories: Annotated[dict[str, Charts], Meta(max_length=limits.LAYOUT_CHARTS_MAX)]


class HParams(UserMessage, frozen=True):
    """Hyperparameters of a run, and its final metrics.

    With a ``folder``, a path in the run's folder, the row has this folder and the metrics are curves there alone;
    without, equal parameters share a row and the metrics are curves of the run. ``domains`` has the values that a
    parameter may take.
    """

    parameters: Parameters
    metrics: Values
    folder: str = ""
    domains: Annotated[dict[str, Domain], Meta(max_length=limits.DOMAIN_VALUES_MAX)] = {}


class Point(UserMessage, frozen=True):
    """One point of one curve, in a form that :class:`Scalars` has not.

    ``form`` is the field of the summary: "simple" as in Scalars, "float" or "double" a tensor of that precision.
    ``display_name`` and ``description`` (markdown) are shown with the curve.
    """

    tag: str
    value: float
    form: Literal["simple", "float", "double"] = "simple"
    display_name: str = ""
    description: str = ""


class Overlay(UserMessage, frozen=True):
    """Points of several curves of one chart: the tag ``tag`` in several runs.

    ``values`` has the value of each curve by its folder, a path in the run's folder (the rules of a run's name).
    """

    tag: str
    values: Values


SESSION_START: Final = b":\x02\x08\x01"
"""A serialised ``tensorflow.Event`` with the start of a session, and nothing else."""


class Event(UserMessage, frozen=True):
    """A serialised ``tensorflow.Event`` of a program that makes summaries by itself, with a summary or a graph.

    Step and time are those of the record. ``folder`` is a path in the run's folder, empty for the run's folder. With
    ``SESSION_START`` in the run's folder, TensorBoard drops what lies before, from the step of the record on.
    """

    event: bytes
    folder: str = ""


class Video(UserMessage, frozen=True):
    """Moving pictures: uint8 ``[N, T, H, W, C]`` with C of 1, 3 or 4; N clips are shown beside each other."""

    tag: str
    frames: Array
    frames_per_second: float = 4.0


class PrCurve(UserMessage, frozen=True):
    """Samples of a precision-recall curve: ``labels`` uint8 ``[N]``, 0 or 1; ``predictions`` float32 ``[N]``, 0..1.

    ``weights`` is float32 ``[N]`` or None (all 1). The logger counts at ``threshold_count`` thresholds.
    """

    tag: str
    labels: Array
    predictions: Array
    threshold_count: int = 127
    weights: Array | None = None


class PrCurveRaw(UserMessage, frozen=True):
    """A finished precision-recall curve: float32 ``[6, thresholds]``.

    The rows are true positives, false positives, true negatives, false negatives, precision, recall.
    """

    tag: str
    rows: Array


class Mesh(UserMessage, frozen=True):
    """Point clouds or meshes: ``vertices`` float32 ``[B, N, 3]``.

    ``colors`` is uint8 ``[B, N, 3]`` or None, ``faces`` int32 ``[B, F, 3]`` or None, ``config`` a JSON object for the
    scene, or empty.
    """

    tag: str
    vertices: Array
    colors: Array | None = None
    faces: Array | None = None
    config: str = ""


class Boxes(UserMessage, frozen=True):
    """A picture with boxes: uint8 ``[H, W, C]``, float32 ``[K, 4]`` of left, top, right, bottom in pixels.

    ``labels`` is empty or has one text a box. The picture is shown ``scale`` times as large.
    """

    tag: str
    image: Array
    boxes: Array
    labels: Annotated[list[str], Meta(max_length=limits.BOXES_MAX)] = []
    scale: float = 1.0


class Histogram(UserMessage, frozen=True):
    """A finished histogram: ``limits`` float64 ``[B]``, the right edges, and ``counts`` float64 ``[B]``."""

    tag: str
    minimum: float
    maximum: float
    count: float
    sum: float
    sum_squares: float
    limits: Array
    counts: Array


class Tensor(UserMessage, frozen=True):
    """The values of a tensor themselves, of any dtype of an array."""

    tag: str
    values: Array


class Gap(msgspec.Struct, frozen=True):
    """Records that were refused or lost: the number of each kind (by name), and the reason.

    ``sequence`` and ``span`` in the header of the record are the range of missing sequence numbers.
    """

    reason: str
    kinds: Annotated[dict[str, int], Meta(max_length=limits.KINDS_MAX)] = {}


class RunEnd(msgspec.Struct, frozen=True):
    """Last record of a stream. "exited": the process ended, and nothing said whether the loop was complete.

    The status is a text of the run, unless ``plain``.
    """

    status: Literal["completed", "failed", "interrupted", "exited"]
    plain: bool = False


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
    | Point
    | Overlay
    | Event
    | Video
    | PrCurve
    | PrCurveRaw
    | Mesh
    | Boxes
    | Histogram
    | Tensor
)
