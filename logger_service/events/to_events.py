"""From a record to its serialised events: pure, so that the same recording gives the same bytes.

All values of a record share one event. A record without anything to show (an embedding, whose points are files of their
own; a kind that this program does not know) leaves an event without content: the id in this event tells a later reader
that the record was projected. When drawing a picture fails, the rest of the record is written, and the caller gets the
exception.

Scalars are nine records in ten. :class:`ScalarEvents` is their fast path, with the same bytes as :func:`project`.
"""

from collections.abc import Mapping, Sized
from itertools import accumulate, islice, takewhile
from typing import Final, NamedTuple, TypeAlias, assert_never

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events import values, writer_values
from tensorboard_sidecar.logger_service.events.foreign_event import parse_event
from tensorboard_sidecar.logger_service.events.identity import BESIDE_PLACE, EventId, name_event
from tensorboard_sidecar.logger_service.rendering.animation import animation
from tensorboard_sidecar.logger_service.rendering.boxes import draw_boxes
from tensorboard_sidecar.logger_service.rendering.canvas import encode_png
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.layer_overview import NAMES_SHOWN_MAX, layer_overview
from tensorboard_sidecar.logger_service.rendering.pictures import contact_sheet, grid
from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.errors import TooLarge
from tensorboard_sidecar.protocol.record import Record

FILE_VERSION: Final = "brain.Event:2"
GAP_RECORDS_TAG: Final = "telemetry/gap_records"
GAPS_TAG: Final = "telemetry/gaps"
# Overviews of one record, and names of layers in all of them: an overview takes 60 ms, a name 1 ms, and nobody looks at
# more.
OVERVIEWS_MAX: Final = 64
OVERVIEW_NAMES_MAX: Final = 16 * NAMES_SHOWN_MAX
# Memory for the events that ScalarEvents keeps: 100 sets of 19 tags, or one set of 2,500 tags. A larger set is not
# kept.
_KEPT_MAX_BYTES: Final = 2**20
_EVENT_SIZE_BYTES: Final = 2**10
_VALUE_SIZE_BYTES: Final = 2**8
_CHARACTER_SIZE_MAX_BYTES: Final = 4
# A protobuf message keeps the memory of every string that was assigned to its fields. ScalarEvents makes its events
# anew after this many uses: 200 KB of strings.
_USES_MAX: Final = 4096


class Projected(NamedTuple):
    """The serialised events of one record, and the exceptions from parts that could not be drawn."""

    events: list[bytes]
    failures: list[Exception]


def project(message: messages.Message | None, record: Record, stream: bytes) -> Projected:
    """Return the events of a record, at least one, each with its id; ``message`` is None for an unknown kind.

    Raises Malformed, ValueError, or any exception from drawing when nothing of the record can be shown.
    """
    failures: list[Exception] = []
    events = _events(message, record, failures) or [_empty_event()]
    return Projected(_finish(events, record, stream), failures)


def blank(record: Record, stream: bytes) -> list[bytes]:
    """Return the event without content, for a record that cannot be shown."""
    return _finish([_empty_event()], record, stream)


def row_event(message: messages.HParams, record: Record, stream: bytes) -> tuple[EventId, bytes]:
    """Return the event for the folder of a set of hyperparameters, and its id: the second event of the record."""
    identity = EventId(stream, record.next_sequence - 1, 1)
    summary = Summary(value=values.hparams_values(message))
    event = Event(wall_time=record.wall_time_ns / 1e9, step=record.step, summary=summary)
    name_event(event, identity)
    serialised: bytes = event.SerializeToString()
    return identity, serialised


def first_new_step(message: messages.RunStart) -> int:
    """Return the first step that an attempt logs anew; records of earlier attempts stay up to ``first_step``."""
    return message.first_step + 1 if message.first_step else 0


def version_event(wall_time_ns: int) -> bytes:
    """Return the serialised first event of every file."""
    serialised: bytes = Event(wall_time=wall_time_ns / 1e9, file_version=FILE_VERSION).SerializeToString()
    return serialised


class BesideEvent(NamedTuple):
    """An event for a folder in the run's folder, beside the event that the run's folder has of the record."""

    folder: str
    identity: EventId
    event: bytes


def beside(message: messages.Message | None, record: Record, stream: bytes) -> list[BesideEvent]:
    """Return the events of a record that belong to folders in the run's folder, one a folder. Raises Malformed."""
    summaries: dict[str, Event] = {}
    if isinstance(message, messages.Overlay):
        for folder, number in message.values.items():
            summaries[folder] = Event(summary=Summary(value=[values.scalar_value(message.tag, number)]))
    elif isinstance(message, messages.Event) and message.folder:
        summaries[message.folder] = parse_event(message.event)
    elif isinstance(message, messages.HParams) and message.folder:
        summaries[message.folder] = Event(summary=Summary(value=values.hparams_values(message)))
    identity = EventId(stream, record.next_sequence - 1, BESIDE_PLACE)
    found = []
    for folder, event in summaries.items():
        event.wall_time, event.step = record.wall_time_ns / 1e9, record.step
        name_event(event, identity)
        found.append(BesideEvent(folder, identity, event.SerializeToString()))
    return found


_Kept: TypeAlias = tuple[tuple[str, ...], Event, list[Summary.Value]]


class ScalarEvents:
    """Packs the scalars of one stream: makes an event once a set of tags, and fills in the numbers of each record.

    ``tags`` are the tags of the last record; records with the same tags mostly have the same object.
    """

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self.tags: tuple[str, ...] = ()
        self._events: dict[tuple[str, ...], _Kept] = {}
        self._size_bytes = 0
        self._uses = 0

    def forget(self) -> None:
        """Drop all kept events; :meth:`pack` makes them again."""
        self._events.clear()
        self._size_bytes = self._uses = 0

    def pack(self, message: messages.Scalars, record: Record) -> bytes:
        """Return the serialised event of a record with at least one scalar, byte for byte as :func:`project`."""
        self.tags, event, shown = self._event(tuple(message.values))
        event.wall_time = record.wall_time_ns / 1e9
        event.step = record.step
        shown[0].node_name = str(EventId(self._stream, record.next_sequence - 1, 0))
        for value, number in zip(shown, message.values.values(), strict=True):
            value.simple_value = number
        serialised: bytes = event.SerializeToString()
        return serialised

    def _event(self, tags: tuple[str, ...]) -> _Kept:
        self._uses += 1
        found = self._events.get(tags)
        if self._uses > _USES_MAX:
            self.forget()
            found = None
        if found is None:
            event = Event(summary=Summary(value=[values.scalar_value(tag, 0.0) for tag in tags]))
            found = tags, event, list(event.summary.value)
            self._keep(tags, found)
        return found

    def _keep(self, tags: tuple[str, ...], event: _Kept) -> None:
        texts_bytes = _CHARACTER_SIZE_MAX_BYTES * sum(map(len, tags))
        size_bytes = _EVENT_SIZE_BYTES + _VALUE_SIZE_BYTES * len(tags) + texts_bytes
        if size_bytes > _KEPT_MAX_BYTES:
            return
        if self._size_bytes + size_bytes > _KEPT_MAX_BYTES:
            self.forget()
        self._events[tags] = event
        self._size_bytes += size_bytes


def _empty_event() -> Event:
    return Event(summary=Summary(value=[Summary.Value()]))


def _finish(events: list[Event], record: Record, stream: bytes) -> list[bytes]:
    """Add time, step and id to the events of a record; return them serialised."""
    for index, event in enumerate(events):
        event.wall_time = record.wall_time_ns / 1e9
        if event.WhichOneof("what") != "session_log":
            event.step = record.step
        name_event(event, EventId(stream, record.next_sequence - 1, index))
    return [event.SerializeToString() for event in events]


# Long: one case a kind, so that mypy finds a kind that is forgotten.
def _events(message: messages.Message | None, record: Record, failures: list[Exception]) -> list[Event]:
    match message:
        case messages.RunStart():
            return _run_start(message)
        case messages.Graph():
            return [Event(graph_def=values.graph_bytes(message))] if message.nodes else []
        case messages.Scalars():
            shown = [values.scalar_value(tag, number) for tag, number in message.values.items()]
        case messages.TensorSummaries():
            shown = _summaries(message.summaries, record.step, failures)
        case messages.Matrix():
            shown = [_matrix(message, record.step)]
        case messages.Images():
            shown = [_images(message, record.step)]
        case messages.Text():
            shown = [values.text_value(message.tag, message.text)]
        case messages.Audio():
            shown = _audio(message)
        case messages.Layout():
            shown = [values.layout_value(message)]
        case messages.HParams():
            # The parameters are in a folder beside: see row_event and beside. With a folder, the metrics are there too.
            shown = [] if message.folder else values.metric_values(message)
        case messages.Gap():
            shown = _gap(message, record)
        case messages.RunEnd():
            status = values.text_value("run/status", f"**{message.status}** at step {record.step:,}")
            shown = [] if message.plain else [status]
        case messages.Event(messages.SESSION_START, ""):
            return _session_starts(record.step)
        case messages.Event():
            return [] if message.folder else [parse_event(message.event)]
        case (
            messages.Point()
            | messages.PrCurve()
            | messages.PrCurveRaw()
            | messages.Mesh()
            | messages.Histogram()
            | messages.Tensor()
            | messages.Video()
            | messages.Boxes()
        ):
            shown = _writer_values(message)
        case messages.Overlay() | messages.Embedding() | messages.SegmentHead() | None:
            shown = []  # in other folders; files beside the events; read by the reader; an unknown kind
        case _:
            assert_never(message)
    return [Event(summary=Summary(value=shown))] if shown else []


def _writer_values(
    message: messages.Point
    | messages.PrCurve
    | messages.PrCurveRaw
    | messages.Mesh
    | messages.Histogram
    | messages.Tensor
    | messages.Video
    | messages.Boxes,
) -> list[Summary.Value]:
    """Return the values of the kinds that a SummaryWriter makes."""
    match message:
        case messages.Point():
            return [writer_values.point_value(message)]
        case messages.PrCurve():
            return [writer_values.pr_curve_value(message.tag, writer_values.count_at_thresholds(message))]
        case messages.PrCurveRaw():
            return [writer_values.pr_curve_value(message.tag, message.rows.numpy())]
        case messages.Mesh():
            return writer_values.mesh_values(message)
        case messages.Histogram():
            return [writer_values.finished_histogram_value(message)]
        case messages.Tensor():
            return [writer_values.tensor_value(message)]
        case messages.Video():
            shown = animation(message.frames.numpy(), message.frames_per_second)
            return [writer_values.animation_value(message.tag, shown)]
        case messages.Boxes():
            picture = draw_boxes(message.image.numpy(), message.boxes.numpy(), message.labels, scale=message.scale)
            return [values.image_value(message.tag, picture)]
        case _:
            assert_never(message)


def _run_start(message: messages.RunStart) -> list[Event]:
    """Return a session start, and the config.

    At a session start the slow loader drops the points of earlier attempts from the step of the start on: an attempt
    that continues earlier attempts has none.
    """
    start = [Event(step=first_new_step(message), session_log=SessionLog(status=SessionLog.START))]
    if message.continues:
        start = []
    if not message.config:
        return start
    rows = [(name, str(value)) for name, value in message.config.items()]
    text = values.text_value("run/config", values.markdown_table(("setting", "value"), rows))
    return [*start, Event(summary=Summary(value=[text]))]


def _session_starts(step: int) -> list[Event]:
    """Return two starts of a session: the slow loader ignores the first one of a run, which purges nothing."""
    return [Event(step=step, session_log=SessionLog(status=SessionLog.START)) for _ in range(2)]


def _summaries(
    summaries: Mapping[str, messages.TensorSummary], step: int, failures: list[Exception]
) -> list[Summary.Value]:
    """Return a histogram a tag, and an overview of every group of two or more tags with the same first component."""
    shown = [values.histogram_value(tag, summary) for tag, summary in summaries.items()]
    groups: dict[str, list[tuple[str, messages.TensorSummary]]] = {}
    for tag, summary in summaries.items():
        component, _, layer = tag.partition("/")
        if layer:
            groups.setdefault(component, []).append((layer, summary))
    groups = {component: layers for component, layers in groups.items() if len(layers) > 1}
    for component, layers in islice(groups.items(), _overviews(groups, failures)):
        try:
            shown.append(
                values.image_value(f"histograms/{component}", layer_overview(layers, title=component, step=step))
            )
        except Exception as error:  # noqa: BLE001 - an overview that fails must not cost the histograms
            failures.append(error)
    return shown


def _overviews(groups: Mapping[str, Sized], failures: list[Exception]) -> int:
    """Return the number of groups, from the first on, that get an overview; add a failure when some get none."""
    names = accumulate(min(len(layers), NAMES_SHOWN_MAX) for layers in groups.values())
    number = sum(1 for _ in takewhile(lambda count: count <= OVERVIEW_NAMES_MAX, islice(names, OVERVIEWS_MAX)))
    if number < len(groups):
        failures.append(TooLarge("groups of tags that have an overview", len(groups), number))
    return number


def _matrix(message: messages.Matrix, step: int) -> Summary.Value:
    picture = heatmap(
        message.values.numpy(),
        title=message.title or message.tag,
        row_label=message.row_label,
        column_label=message.column_label,
        value_range=message.value_range,
        step=step,
    )
    return values.image_value(message.tag, picture)


def _images(message: messages.Images, step: int) -> Summary.Value:
    pictures = message.images.numpy()
    if message.captions:
        return values.image_value(message.tag, contact_sheet(pictures, message.captions, title=message.tag, step=step))
    return values.image_value(message.tag, encode_png(pictures[0]) if len(pictures) == 1 else grid(pictures))


def _audio(message: messages.Audio) -> list[Summary.Value]:
    """Return the clips as samples of one tag, and the captions as a text: TensorBoard's audio tab shows no captions."""
    if not message.clips:
        return []
    if message.single:
        shown = [writer_values.single_audio_value(message)]
    else:
        shown = [values.audio_value(message.tag, message.clips, message.sample_rate_hz)]
    if message.captions:
        shown.append(values.text_value(f"{message.tag}/captions", values.numbered_list(message.captions)))
    return shown


def _gap(message: messages.Gap, record: Record) -> list[Summary.Value]:
    last = record.next_sequence - 1
    lines = [f"**{record.span:,} records missing**, sequence {record.sequence:,} to {last:,}"]
    lines.append(values.escape_markdown(message.reason))
    if message.kinds:
        rows = [(kind, f"{number:,}") for kind, number in message.kinds.items()]
        lines.append(values.markdown_table(("kind", "records"), rows))
    return [values.scalar_value(GAP_RECORDS_TAG, record.span), values.text_value(GAPS_TAG, "\n\n".join(lines))]
