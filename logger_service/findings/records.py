"""From the messages of a recording to what the rules watch."""

from typing import assert_never

from tensorboard_sidecar.logger_service.findings.samples import Layer
from tensorboard_sidecar.logger_service.findings.watch import Watch, fingerprint
from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.record import Kind, Record

# Kinds that tell the rules nothing: a reader that rebuilds a watch need not decode them.
UNWATCHED = frozenset(
    {
        *(Kind.IMAGES, Kind.TEXT, Kind.AUDIO, Kind.GRAPH, Kind.LAYOUT, Kind.EVENT, Kind.VIDEO),
        *(Kind.PR_CURVE, Kind.PR_CURVE_RAW, Kind.MESH, Kind.BOXES, Kind.TENSOR),
    }
)


def observe(watch: Watch, record: Record, message: messages.Message | None) -> list[Finding]:
    """Show a record to the rules; return the findings that open or clear. ``message`` is None for an unknown kind."""
    step = record.step
    match message:
        case messages.Scalars():
            return watch.scalars(step, record.wall_time_ns, message.values)
        case messages.Point():
            return watch.scalars(step, record.wall_time_ns, {message.tag: message.value})
        case messages.Overlay():
            return watch.scalars(step, record.wall_time_ns, message.values)
        case messages.TensorSummaries():
            return [one for tag, layer in message.summaries.items() for one in _layer(watch, step, tag, layer)]
        case messages.Histogram():
            layer = Layer(*_numbers(message))
            return watch.layer(step, message.tag, layer, 0)
        case messages.Matrix():
            return watch.matrix(step, message.tag, message.values.numpy())
        case messages.Embedding():
            if message.first_row:
                return []  # the first part is sample enough
            return watch.embedding(step, message.tag, message.vectors.numpy(), _groups(message))
        case messages.RunStart():
            return watch.start(message.first_step, message.config, continues=message.continues)
        case messages.HParams():
            return watch.settings(message.parameters)
        case messages.Gap():
            return watch.missing(step, record.span, message.reason)
        case messages.RunEnd():
            return watch.end(step)
        case messages.SegmentHead() | messages.UserMessage() | None:
            return []  # UNWATCHED
        case _:
            assert_never(message)


def _layer(watch: Watch, step: int, tag: str, summary: messages.TensorSummary) -> list[Finding]:
    non_finite = summary.nans + summary.positive_infinities + summary.negative_infinities
    finite = summary.count - non_finite
    rms = (summary.sum_squares / finite) ** 0.5 if finite > 0 else 0.0
    changed = fingerprint(summary.sum, summary.sum_squares, summary.minimum, summary.maximum)
    layer = Layer(summary.count, summary.zeros, rms, summary.minimum, summary.maximum, changed)
    return watch.layer(step, tag, layer, non_finite)


def _numbers(message: messages.Histogram) -> tuple[int, int, float, float, float, int]:
    count = int(message.count)
    rms = (message.sum_squares / message.count) ** 0.5 if message.count > 0 else 0.0
    changed = fingerprint(message.sum, message.sum_squares, message.minimum, message.maximum)
    zeros = count if message.minimum == message.maximum == 0 else 0  # the buckets do not tell zeros from small values
    return count, zeros, rms, message.minimum, message.maximum, changed


def _groups(message: messages.Embedding) -> list[str]:
    if "modality" not in message.columns:
        return []
    column = message.columns.index("modality")
    return [row[column] for row in message.rows]
