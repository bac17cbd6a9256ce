"""From a record to its events: pure, so that the same recording gives the same bytes.

The values of a record share one event. A record that shows nothing (an embedding, whose points lie in files of their
own; a kind this program does not know) leaves an event without content, so that whoever reads the file back sees that
it was here. Drawing may fail; the rest of the record is written all the same, and what was raised is handed back.
"""

from collections.abc import Mapping, Sized
from itertools import accumulate, islice, takewhile
from typing import Final, NamedTuple

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events import markdown
from tensorboard_sidecar.logger_service.events.custom_scalars import layout_value
from tensorboard_sidecar.logger_service.events.graph import graph_bytes
from tensorboard_sidecar.logger_service.events.hparams import hparams_values
from tensorboard_sidecar.logger_service.events.identity import EventId, name_event
from tensorboard_sidecar.logger_service.events.values import (
    Value,
    audio_value,
    histogram_value,
    image_value,
    scalar_value,
    text_value,
)
from tensorboard_sidecar.logger_service.rendering.contact_sheet import contact_sheet
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.layer_overview import layer_overview
from tensorboard_sidecar.logger_service.rendering.overview_layout import NAMES_SHOWN_MAX
from tensorboard_sidecar.logger_service.rendering.pictures import grid, plain
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Gap,
    Graph,
    HParams,
    Images,
    Layout,
    Matrix,
    Message,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
    TensorSummary,
    Text,
)
from tensorboard_sidecar.protocol.record import Record

FILE_VERSION: Final = "brain.Event:2"
GAP_RECORDS_TAG: Final = "telemetry/gap_records"
GAPS_TAG: Final = "telemetry/gaps"
# Overviews of one record, and names of layers in them: one takes 60 ms, the other 1 ms, and nobody looks at more.
OVERVIEWS_MAX: Final = 64
OVERVIEW_NAMES_MAX: Final = 16 * NAMES_SHOWN_MAX


class Projected(NamedTuple):
    """The serialised events of one record, and what was raised by parts of it that could not be drawn."""

    events: list[bytes]
    failures: list[Exception]


def project(message: Message | None, record: Record, stream: bytes) -> Projected:
    """Return the events of a record, at least one, each named by its id.

    Raises Malformed, ValueError or whatever drawing raises when the record as a whole cannot be shown.
    """
    failures: list[Exception] = []
    events = _events(message, record, failures) or [Event(summary=Summary(value=[Value()]))]
    return Projected(_finish(events, record, stream), failures)


def blank(record: Record, stream: bytes) -> list[bytes]:
    """Return the event without content of a record that cannot be shown."""
    return _finish([Event(summary=Summary(value=[Value()]))], record, stream)


def first_new_step(message: RunStart) -> int:
    """Return the first step that an attempt says anew: what was said at ``first_step`` itself stays."""
    return message.first_step + 1 if message.first_step else 0


def version_event(wall_time_ns: int) -> bytes:
    """Return the event that every file begins with, serialised."""
    serialised: bytes = Event(wall_time=wall_time_ns / 1e9, file_version=FILE_VERSION).SerializeToString()
    return serialised


def _finish(events: list[Event], record: Record, stream: bytes) -> list[bytes]:
    for index, event in enumerate(events):
        event.wall_time = record.wall_time_ns / 1e9
        if event.WhichOneof("what") != "session_log":
            event.step = record.step
        name_event(event, EventId(stream, record.next_sequence - 1, index))
    return [event.SerializeToString() for event in events]


def _events(message: Message | None, record: Record, failures: list[Exception]) -> list[Event]:
    match message:
        case RunStart():
            return _run_start(message)
        case Graph() if message.nodes:
            return [Event(graph_def=graph_bytes(message))]
        case _:
            values = _values(message, record, failures)
            return [Event(summary=Summary(value=values))] if values else []


def _values(message: Message | None, record: Record, failures: list[Exception]) -> list[Value]:
    match message:
        case Scalars():
            return [scalar_value(tag, number) for tag, number in message.values.items()]
        case TensorSummaries():
            return _summaries(message.summaries, record.step, failures)
        case Matrix():
            return [_matrix(message, record.step)]
        case Images():
            return [_images(message, record.step)]
        case Text():
            return [text_value(message.tag, message.text)]
        case Audio() if message.clips:
            return _audio(message)
        case Layout():
            return [layout_value(message)]
        case HParams():
            return hparams_values(message)
        case Gap():
            return _gap(message, record)
        case RunEnd():
            return [text_value("run/status", f"**{message.status}** at step {record.step:,}")]
        case _:
            return []


def _run_start(message: RunStart) -> list[Event]:
    """Return the config, after a session start: the slow loader drops what an earlier attempt wrote from there on."""
    start = Event(step=first_new_step(message), session_log=SessionLog(status=SessionLog.START))
    if not message.config:
        return [start]
    rows = [(name, str(value)) for name, value in message.config.items()]
    text = text_value("run/config", markdown.table(("setting", "value"), rows))
    return [start, Event(summary=Summary(value=[text]))]


def _summaries(summaries: Mapping[str, TensorSummary], step: int, failures: list[Exception]) -> list[Value]:
    """Return a histogram a tag, and an overview of every group of two or more that share their first component."""
    values = [histogram_value(tag, summary) for tag, summary in summaries.items()]
    groups: dict[str, list[tuple[str, TensorSummary]]] = {}
    for tag, summary in summaries.items():
        component, _, layer = tag.partition("/")
        if layer:
            groups.setdefault(component, []).append((layer, summary))
    groups = {component: layers for component, layers in groups.items() if len(layers) > 1}
    for component, layers in islice(groups.items(), _drawn(groups, failures)):
        try:
            values.append(image_value(f"histograms/{component}", layer_overview(layers, title=component, step=step)))
        except Exception as error:  # noqa: BLE001 - whatever the overview raises must not cost the histograms
            failures.append(error)
    return values


def _drawn(groups: Mapping[str, Sized], failures: list[Exception]) -> int:
    """Return how many groups, from the first on, have an overview; when that is not all of them, it is a failure."""
    names = accumulate(min(len(layers), NAMES_SHOWN_MAX) for layers in groups.values())
    number = sum(1 for _ in takewhile(lambda count: count <= OVERVIEW_NAMES_MAX, islice(names, OVERVIEWS_MAX)))
    if number < len(groups):
        failures.append(TooLarge("groups of tags that have an overview", len(groups), number))
    return number


def _matrix(message: Matrix, step: int) -> Value:
    picture = heatmap(
        message.values.numpy(),
        title=message.title or message.tag,
        row_label=message.row_label,
        column_label=message.column_label,
        value_range=message.value_range,
        step=step,
    )
    return image_value(message.tag, picture)


def _images(message: Images, step: int) -> Value:
    pictures = message.images.numpy()
    if message.captions:
        return image_value(message.tag, contact_sheet(pictures, message.captions, title=message.tag, step=step))
    return image_value(message.tag, plain(pictures[0]) if len(pictures) == 1 else grid(pictures))


def _audio(message: Audio) -> list[Value]:
    """Return the clips as samples of one tag; captions, which TensorBoard's audio tab has no place for, as a text."""
    values = [audio_value(message.tag, message.clips, message.sample_rate_hz)]
    if message.captions:
        values.append(text_value(f"{message.tag}/captions", markdown.numbered(message.captions)))
    return values


def _gap(message: Gap, record: Record) -> list[Value]:
    last = record.next_sequence - 1
    lines = [f"**{record.span:,} records missing**, sequence {record.sequence:,} to {last:,}"]
    lines.append(markdown.plain(message.reason))
    if message.kinds:
        lines.append(markdown.table(("kind", "records"), [(kind, f"{n:,}") for kind, n in message.kinds.items()]))
    return [scalar_value(GAP_RECORDS_TAG, record.span), text_value(GAPS_TAG, "\n\n".join(lines))]
