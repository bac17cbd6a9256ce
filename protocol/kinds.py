"""The table of message kinds: one row holds everything that the programs must know of a kind; and the rules of a kind.

Both sides look kinds up here: the codec (message type, check, decoding), the outbox of a trainer (share of the
capacity), the projection (what shows something, what is slow to draw) and everything that prints a name. A row has no
optional field, so that every decision is made for every kind; ``tests/protocol/test_kinds.py`` compares the rows with
:class:`~tensorboard_sidecar.protocol.record.Kind` and with the union ``Message``.

The check of a kind holds the rules that a message keeps beyond its types. The sender checks a message before encoding,
and the reader checks the message again after decoding. Every check raises Malformed or TooLarge, and the error names
the field, the value and the rule.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np

from tensorboard_sidecar.protocol import limits, messages
from tensorboard_sidecar.protocol.array import DTYPES, Array, check_array
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.messages import Message
from tensorboard_sidecar.protocol.names import check_file_suffix, check_folder, check_run, check_step, check_tag
from tensorboard_sidecar.protocol.record import Kind

M = TypeVar("M")

_JSON_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])


@dataclass(frozen=True, slots=True)
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
    """

    kind: Kind
    message_type: type[M]
    check: Callable[[M], None]
    outbox_share: float
    shows: bool
    picture: bool

    @property
    def name(self) -> str:
        """The name that a Gap uses: ``tensor_summaries``."""
        return self.kind.name.lower()

    @property
    def title(self) -> str:
        """The name for people: ``tensor summaries``."""
        return self.name.replace("_", " ")


def _check_segment_head(head: messages.SegmentHead) -> None:
    """Check the identity of the stream, and that the segment begins at a sequence number."""
    check_run(head.run)
    if len(head.stream) != 16 or head.first_sequence < 1:
        raise Malformed(f"segment head: stream of {len(head.stream)} bytes, first sequence {head.first_sequence}")
    if not (0 <= head.rank < 2**31 and 0 <= head.attempt < 2**31):
        raise Malformed(f"segment head: rank {head.rank}, attempt {head.attempt}; expected 0 to 2**31")


def _check_run_start(start: messages.RunStart) -> None:
    check_step(start.first_step)
    if start.first_step < 0:
        raise Malformed(f"run start: first step {start.first_step}; expected 0 or more")
    check_file_suffix(start.file_suffix)
    _check_parameters("run start", start.config)


def _check_scalars(scalars: messages.Scalars) -> None:
    """Check the tags; any float is a value."""
    _check_tags(scalars.values)


def _check_tensor_summaries(message: messages.TensorSummaries) -> None:
    _check_tags(message.summaries)
    for tag, summary in message.summaries.items():
        _check_summary(tag, summary)


def _check_matrix(matrix: messages.Matrix) -> None:
    check_tag(matrix.tag)
    check_array(matrix.tag, matrix.values, dtypes=("float16", "float32"), dimensions=2)
    _check_sides(matrix.tag, matrix.values.shape, limits.MATRIX_SIDE_MAX)
    _check_labels(matrix.tag, [matrix.title, matrix.row_label, matrix.column_label])
    if matrix.value_range is not None:
        low, high = matrix.value_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise Malformed(f"{matrix.tag}: value range {matrix.value_range}; expected finite low < high")


def _check_images(message: messages.Images) -> None:
    tag, images = check_tag(message.tag), message.images
    check_array(tag, images, dtypes=("uint8",), dimensions=4)
    check_size(f"{tag}: pictures", images.shape[0], limits.IMAGES_MAX)
    _check_sides(tag, images.shape[:3], limits.IMAGE_SIDE_MAX)
    if images.shape[3] not in (1, 3, 4):
        raise Malformed(f"{tag}: {images.shape[3]} channels; expected uint8 [N, H, W, C] with C of 1, 3 or 4")
    _check_labels(tag, message.captions, (0, images.shape[0]))


def _check_text(text: messages.Text) -> None:
    check_tag(text.tag)
    check_size(f"text {text.tag} in characters", len(text.text), limits.TEXT_MAX_CHARACTERS)


def _check_audio(audio: messages.Audio) -> None:
    check_tag(audio.tag)
    check_size(f"{audio.tag}: clips", len(audio.clips), limits.CLIPS_MAX)
    if not 1 <= audio.sample_rate_hz <= limits.SAMPLE_RATE_MAX_HZ:
        raise Malformed(f"{audio.tag}: sample rate {audio.sample_rate_hz} Hz")
    for clip in audio.clips:
        check_array(audio.tag, clip, dtypes=("int16",), dimensions=2)
        if not 1 <= clip.shape[1] <= limits.AUDIO_CHANNELS_MAX:
            raise Malformed(
                f"{audio.tag}: {clip.shape[1]} channels; expected int16 [frames, channels], 1 to"
                f" {limits.AUDIO_CHANNELS_MAX}"
            )
    _check_labels(audio.tag, audio.captions, (0, len(audio.clips)))
    if audio.single and len(audio.clips) != 1:
        raise Malformed(f"{audio.tag}: {len(audio.clips)} clips in a summary of a single sound")


def _check_embedding(embedding: messages.Embedding) -> None:
    """Check the tag, the points, that metadata and thumbnails have one item a point, and the place of a part."""
    tag = check_tag(embedding.tag)
    check_array(tag, embedding.vectors, dtypes=("float32",), dimensions=2)
    rows = embedding.vectors.shape[0]
    _check_sides(tag, embedding.vectors.shape, limits.EMBEDDING_ROWS_MAX)
    check_size(f"{tag}: columns", len(embedding.columns), limits.EMBEDDING_COLUMNS_MAX)
    _check_labels(tag, embedding.columns)
    if len(embedding.rows) not in (0, rows) or bool(embedding.rows) != bool(embedding.columns):
        raise Malformed(f"{tag}: metadata of {len(embedding.rows)} rows for {rows} vectors")
    for row in embedding.rows:
        _check_labels(tag, row, (len(embedding.columns),))
    if embedding.thumbnails is not None:
        check_array(f"{tag}: thumbnails", embedding.thumbnails, dtypes=("uint8",), dimensions=4)
        if embedding.thumbnails.shape[0] != rows or embedding.thumbnails.shape[3] != 3:
            raise Malformed(f"{tag}: thumbnails of shape {embedding.thumbnails.shape} for {rows} vectors")
        _check_sides(tag, embedding.thumbnails.shape[1:3], limits.IMAGE_SIDE_MAX)
    first_row, row_count = embedding.first_row, embedding.row_count
    check_size(f"{tag}: rows of all parts", row_count, limits.EMBEDDING_ROWS_TOTAL_MAX)
    if not (0 <= first_row <= row_count - rows or first_row == row_count == 0):
        raise Malformed(f"{tag}: a part of {rows} rows from row {first_row} on, of {row_count} rows")


def _check_graph(graph: messages.Graph) -> None:
    check_size("graph: nodes", len(graph.nodes), limits.GRAPH_NODES_MAX)
    check_size("graph: parts", sum(map(node_parts, graph.nodes)), limits.GRAPH_PARTS_MAX)
    for node in graph.nodes:
        links = max(len(node.inputs), len(node.output_shapes), len(node.attributes))
        check_size(f"graph: links of node {node.name!r:.80}", links, limits.GRAPH_NODE_LINKS_MAX)
        _check_labels("graph", [node.name, node.operation, *node.inputs])
        _check_labels("graph", [*node.attributes, *node.attributes.values()])
        check_size(
            "graph: sides of an output", max(map(len, node.output_shapes), default=0), limits.ARRAY_DIMENSIONS_MAX
        )
        if not all(-1 <= side < 2**63 for shape in node.output_shapes for side in shape):
            raise Malformed(f"graph: node {node.name!r:.80} with output shapes {node.output_shapes!r:.80}")


def _check_layout(layout: messages.Layout) -> None:
    check_size("layout: categories", len(layout.categories), limits.LAYOUT_CHARTS_MAX)
    check_size("layout: parts", sum(map(chart_parts, layout.categories.values())), limits.LAYOUT_PARTS_MAX)
    for category, charts in layout.categories.items():
        check_size(f"layout: charts of {category!r:.80}", len(charts), limits.LAYOUT_CHARTS_MAX)
        _check_labels("layout", [category, *charts])
        for title, chart in charts.items():
            _check_labels(f"layout, chart {title!r:.80}", chart.tags, (3,) if chart.kind == "margin" else ())


def _check_hparams(hparams: messages.HParams) -> None:
    _check_tags(hparams.parameters)
    _check_parameters("hyperparameters", hparams.parameters)
    _check_tags(hparams.metrics)
    _check_folder(hparams.folder)
    check_size("hyperparameters with a domain", len(hparams.domains), limits.DOMAIN_VALUES_MAX)
    if foreign := hparams.domains.keys() - hparams.parameters.keys():
        raise Malformed(f"a domain of {min(foreign)!r:.80}, which is none of the hyperparameters")
    for name, domain in hparams.domains.items():
        check_size(f"domain of {name!r:.80}", len(domain), limits.DOMAIN_VALUES_MAX)
        _check_labels("domain", [value for value in domain if isinstance(value, str)])


def _check_gap(gap: messages.Gap) -> None:
    check_size("gap: kinds", len(gap.kinds), limits.KINDS_MAX)
    _check_labels("gap", [gap.reason, *gap.kinds])
    if min(gap.kinds.values(), default=0) < 0:
        raise Malformed(f"gap: negative counts in {gap.kinds}")


def _check_run_end(_: messages.RunEnd) -> None:
    """Check nothing: the decoder takes no status that is not in the type."""


def _check_point(point: messages.Point) -> None:
    """Check the texts; any float is a value."""
    check_tag(point.tag)
    _check_labels(point.tag, [point.display_name])
    check_size(f"{point.tag}: description in characters", len(point.description), limits.TEXT_MAX_CHARACTERS)


def _check_overlay(overlay: messages.Overlay) -> None:
    """Check the tag and the folders; any float is a value."""
    check_tag(overlay.tag)
    check_size(f"{overlay.tag}: curves", len(overlay.values), limits.OVERLAY_CURVES_MAX)
    for folder in overlay.values:
        check_folder(folder)


def _check_event(event: messages.Event) -> None:
    """Check the folder. The logger parses the event: this room knows none of TensorBoard's types."""
    _check_folder(event.folder)
    if not event.event:
        raise Malformed("an event of 0 bytes")


def _check_video(video: messages.Video) -> None:
    tag, frames = check_tag(video.tag), video.frames
    check_array(tag, frames, dtypes=("uint8",), dimensions=5)
    _check_sides(tag, frames.shape[2:4], limits.IMAGE_SIDE_MAX)
    _check_sides(f"{tag}: clips", frames.shape[:1], limits.VIDEO_CLIPS_MAX)
    _check_sides(f"{tag}: pictures of a clip", frames.shape[1:2], limits.VIDEO_FRAMES_MAX)
    if frames.shape[4] not in (1, 3, 4):
        raise Malformed(f"{tag}: {frames.shape[4]} channels; expected uint8 [N, T, H, W, C] with C of 1, 3 or 4")
    if not 0 < video.frames_per_second <= limits.VIDEO_RATE_MAX_HZ:
        rate = f"{video.frames_per_second} pictures a second"
        raise Malformed(f"{tag}: {rate}; expected more than 0 and at most {limits.VIDEO_RATE_MAX_HZ:,}")


def _check_pr_curve(curve: messages.PrCurve) -> None:
    """Check that there are as many labels and weights as predictions; a prediction outside of 0..1 counts nowhere."""
    tag = check_tag(curve.tag)
    check_array(f"{tag}: labels", curve.labels, dtypes=("uint8",), dimensions=1)
    check_array(f"{tag}: predictions", curve.predictions, dtypes=("float32",), dimensions=1)
    if curve.labels.shape != curve.predictions.shape:
        raise Malformed(f"{tag}: {curve.labels.shape[0]} labels for {curve.predictions.shape[0]} predictions")
    if (curve.labels.numpy() > 1).any():
        raise Malformed(f"{tag}: a label that is neither 0 nor 1")
    if curve.weights is not None:
        check_array(f"{tag}: weights", curve.weights, dtypes=("float32",), dimensions=1)
        if curve.weights.shape != curve.predictions.shape:
            raise Malformed(f"{tag}: {curve.weights.shape[0]} weights for {curve.predictions.shape[0]} predictions")
        _check_finite(f"{tag}: weights", curve.weights)
    if curve.threshold_count < 1:
        raise Malformed(f"{tag}: {curve.threshold_count} thresholds; expected 1 or more")
    check_size(f"{tag}: thresholds", curve.threshold_count, limits.PR_THRESHOLDS_MAX)


def _check_pr_curve_raw(curve: messages.PrCurveRaw) -> None:
    """Check the shape; any float is a value (a precision of no samples is NaN)."""
    tag = check_tag(curve.tag)
    check_array(tag, curve.rows, dtypes=("float32",), dimensions=2)
    if curve.rows.shape[0] != 6:
        raise Malformed(f"{tag}: {curve.rows.shape[0]} rows; expected float32 [6, thresholds]")
    _check_sides(f"{tag}: thresholds", curve.rows.shape[1:], limits.PR_THRESHOLDS_MAX)


def _check_mesh(mesh: messages.Mesh) -> None:
    tag, (batch, points) = check_tag(mesh.tag), _check_triples(mesh.tag, "vertices", mesh.vertices, "float32")
    if mesh.colors is not None and _check_triples(tag, "colors", mesh.colors, "uint8") != (batch, points):
        raise Malformed(f"{tag}: colors of shape {mesh.colors.shape} for vertices of shape {mesh.vertices.shape}")
    if mesh.faces is not None and _check_triples(tag, "faces", mesh.faces, "int32")[0] != batch:
        raise Malformed(f"{tag}: faces of shape {mesh.faces.shape} for vertices of shape {mesh.vertices.shape}")
    _check_labels(f"{tag}: config", [mesh.config])
    if mesh.config:
        try:
            _JSON_OBJECT.decode(mesh.config)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise Malformed(f"{tag}: config {mesh.config!r:.80}; expected a JSON object") from None


def _check_triples(tag: str, name: str, array: Array, dtype: str) -> tuple[int, int]:
    """Check an array ``[B, N, 3]``; return B and N."""
    check_array(f"{tag}: {name}", array, dtypes=(dtype,), dimensions=3)
    if min(array.shape) < 1 or array.shape[2] != 3:
        raise Malformed(f"{tag}: {name} of shape {array.shape}; expected [B, N, 3]")
    return array.shape[0], array.shape[1]


def _check_boxes(message: messages.Boxes) -> None:
    tag, image, boxes = check_tag(message.tag), message.image, message.boxes
    check_array(tag, image, dtypes=("uint8",), dimensions=3)
    _check_sides(tag, image.shape[:2], limits.IMAGE_SIDE_MAX)
    if image.shape[2] not in (1, 3, 4):
        raise Malformed(f"{tag}: {image.shape[2]} channels; expected uint8 [H, W, C] with C of 1, 3 or 4")
    check_array(f"{tag}: boxes", boxes, dtypes=("float32",), dimensions=2)
    if boxes.shape[1] != 4:
        raise Malformed(f"{tag}: boxes of shape {boxes.shape}; expected float32 [K, 4]")
    check_size(f"{tag}: boxes", boxes.shape[0], limits.BOXES_MAX)
    _check_finite(f"{tag}: boxes", boxes)
    _check_labels(tag, message.labels, (0, boxes.shape[0]))
    scaled = [side * message.scale for side in image.shape[:2]]
    if not 1 <= min(scaled) <= max(scaled) <= limits.IMAGE_SIDE_MAX:
        size = f"a picture of {image.shape[0]} x {image.shape[1]} at scale {message.scale}"
        raise Malformed(f"{tag}: {size}; expected sides of 1 to {limits.IMAGE_SIDE_MAX:,}")


def _check_histogram(histogram: messages.Histogram) -> None:
    """Check that edges ascend, counts are not negative, and minimum and maximum are numbers."""
    tag, edges, counts = check_tag(histogram.tag), histogram.limits, histogram.counts
    for name, array in (("limits", edges), ("counts", counts)):
        check_array(f"{tag}: {name}", array, dtypes=("float64",), dimensions=1)
    if edges.shape != counts.shape:
        raise Malformed(f"{tag}: {edges.shape[0]} limits for {counts.shape[0]} counts")
    _check_sides(f"{tag}: buckets", edges.shape, limits.HISTOGRAM_BUCKETS_MAX)
    if not (edges.numpy()[1:] >= edges.numpy()[:-1]).all() or math.isnan(edges.numpy()[0]):
        raise Malformed(f"{tag}: limits that do not ascend")
    if not (counts.numpy() >= 0).all():
        raise Malformed(f"{tag}: a count is negative or no number")
    _check_finite(f"{tag}: counts", counts)
    if math.isnan(histogram.minimum) or math.isnan(histogram.maximum):
        raise Malformed(f"{tag}: minimum {histogram.minimum}, maximum {histogram.maximum}; expected numbers")


def _check_tensor(tensor: messages.Tensor) -> None:
    """Check the array; any number is a value, and sides may be 0."""
    check_array(check_tag(tensor.tag), tensor.values, dtypes=tuple(DTYPES))


def node_parts(node: messages.GraphNode) -> int:
    """Return the parts of a node that count towards ``GRAPH_PARTS_MAX``."""
    links = len(node.inputs) + len(node.output_shapes) + len(node.attributes)
    return links + sum(map(len, node.output_shapes))


def chart_parts(charts: messages.Charts) -> int:
    """Return the parts of a category that count towards ``LAYOUT_PARTS_MAX``."""
    return len(charts) + sum(len(chart.tags) for chart in charts.values())


def _check_summary(tag: str, summary: messages.TensorSummary) -> None:
    check_array(f"{tag}: indexes", summary.indexes, dtypes=("uint16",), dimensions=1)
    check_array(f"{tag}: counts", summary.counts, dtypes=("uint64",), dimensions=1)
    check_size(f"{tag}: buckets", summary.indexes.shape[0], limits.BUCKETS_MAX)
    if summary.indexes.shape != summary.counts.shape:
        raise Malformed(f"{tag}: {summary.indexes.shape[0]} indexes for {summary.counts.shape[0]} counts")
    bits = summary.mantissa_bits
    if not 0 <= bits <= 3:
        raise Malformed(f"{tag}: {bits} mantissa bits came; expected 0 to 3")
    indexes, infinity = summary.indexes.numpy(), 255 << bits
    if (indexes[1:] <= indexes[:-1]).any() or (len(indexes) and int(indexes[-1]) >> (9 + bits)):
        raise Malformed(f"{tag}: bucket indexes are not ascending below 2**{9 + bits}")
    # Subtract 1 as uint16: the magnitude 0 wraps around to 65,535, so that one comparison refuses zeros as well.
    if ((indexes & (256 << bits) - 1) - np.uint16(1) >= infinity - 1).any():
        raise Malformed(f"{tag}: a bucket of zeros, infinities or NaN; these are counted apart")
    infinities = (summary.positive_infinities, summary.negative_infinities)
    if min(summary.count, summary.zeros, summary.nans, *infinities) < 0:
        raise Malformed(f"{tag}: a count is negative")
    if not (math.isfinite(summary.minimum) and math.isfinite(summary.maximum)):
        raise Malformed(f"{tag}: minimum {summary.minimum}, maximum {summary.maximum}; expected finite values")


def _check_parameters(subject: str, parameters: dict[str, messages.ParameterValue]) -> None:
    check_size(f"{subject}: parameters", len(parameters), limits.TAGS_MAX)
    _check_labels(subject, [*parameters, *(value for value in parameters.values() if isinstance(value, str))])


def _check_tags(tags: Iterable[str]) -> None:
    number = 0
    for number, tag in enumerate(tags, 1):  # noqa: B007 - the last number is the count
        check_tag(tag)
    check_size("tags in one record", number, limits.TAGS_MAX)


def _check_labels(subject: str, labels: list[str], allowed_lengths: tuple[int, ...] = ()) -> None:
    if allowed_lengths and len(labels) not in allowed_lengths:
        raise Malformed(f"{subject}: {len(labels)} labels came; expected {allowed_lengths[-1]}")
    for label in labels:
        check_size(f"{subject}: label in characters", len(label), limits.LABEL_MAX_CHARACTERS)


def _check_folder(folder: str) -> None:
    """Check a folder in the run's folder; an empty text is the run's folder itself."""
    if folder:
        check_folder(folder)


def _check_finite(subject: str, array: Array) -> None:
    if not np.isfinite(array.numpy()).all():
        raise Malformed(f"{subject} that are not finite")


def _check_sides(subject: str, sides: tuple[int, ...], limit: int) -> None:
    if min(sides) < 1:
        raise Malformed(f"{subject}: shape {sides} is empty")
    check_size(f"{subject}: largest side", max(sides), limit)


def check_size(subject: str, size: int, limit: int) -> None:
    """Raise TooLarge for a size or a count above its limit."""
    if size > limit:
        raise TooLarge(subject, size, limit)


KINDS: Final[tuple[MessageKind[Any], ...]] = (
    # kind, type of the message, check, share of the outbox, shows, picture
    MessageKind(Kind.SEGMENT, messages.SegmentHead, _check_segment_head, 1.00, False, False),
    MessageKind(Kind.RUN_START, messages.RunStart, _check_run_start, 1.00, False, False),
    MessageKind(Kind.SCALARS, messages.Scalars, _check_scalars, 0.95, True, False),
    MessageKind(Kind.TENSOR_SUMMARIES, messages.TensorSummaries, _check_tensor_summaries, 0.80, True, True),
    MessageKind(Kind.MATRIX, messages.Matrix, _check_matrix, 0.70, True, True),
    MessageKind(Kind.IMAGES, messages.Images, _check_images, 0.70, True, True),
    MessageKind(Kind.TEXT, messages.Text, _check_text, 0.80, True, False),
    MessageKind(Kind.AUDIO, messages.Audio, _check_audio, 0.70, True, False),
    MessageKind(Kind.EMBEDDING, messages.Embedding, _check_embedding, 0.80, True, True),
    MessageKind(Kind.GRAPH, messages.Graph, _check_graph, 1.00, True, False),
    MessageKind(Kind.LAYOUT, messages.Layout, _check_layout, 1.00, True, False),
    MessageKind(Kind.HPARAMS, messages.HParams, _check_hparams, 1.00, True, False),
    MessageKind(Kind.GAP, messages.Gap, _check_gap, 1.00, True, False),
    MessageKind(Kind.RUN_END, messages.RunEnd, _check_run_end, 1.00, False, False),
    MessageKind(Kind.POINT, messages.Point, _check_point, 0.95, True, False),
    MessageKind(Kind.OVERLAY, messages.Overlay, _check_overlay, 0.95, True, False),
    MessageKind(Kind.EVENT, messages.Event, _check_event, 0.80, True, False),
    MessageKind(Kind.VIDEO, messages.Video, _check_video, 0.70, True, True),
    MessageKind(Kind.PR_CURVE, messages.PrCurve, _check_pr_curve, 0.80, True, False),
    MessageKind(Kind.PR_CURVE_RAW, messages.PrCurveRaw, _check_pr_curve_raw, 0.80, True, False),
    MessageKind(Kind.MESH, messages.Mesh, _check_mesh, 0.80, True, False),
    MessageKind(Kind.BOXES, messages.Boxes, _check_boxes, 0.70, True, True),
    MessageKind(Kind.HISTOGRAM, messages.Histogram, _check_histogram, 0.80, True, False),
    MessageKind(Kind.TENSOR, messages.Tensor, _check_tensor, 0.80, True, False),
)
PICTURES: Final[tuple[type[Message], ...]] = tuple(row.message_type for row in KINDS if row.picture)
SILENT: Final = frozenset(int(row.kind) for row in KINDS if not row.shows)
_BY_NUMBER: Final = {int(row.kind): row for row in KINDS}
_BY_TYPE: Final = {row.message_type: row for row in KINDS}


def find_kind(number: int) -> MessageKind[Any] | None:
    """Return the row of a kind by its number; None for the kind of a newer program: skip and count such records.

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
