"""What the rules of findings watch, read from the events of any program: torch, tensorboardX, TensorFlow, this one.

TensorBoard knows a scalar in two forms and a histogram in two forms: the old fields of a summary, and tensors whose
metadata names a plugin. Metadata may come with the first value of a tag alone. Pictures, texts and sounds are ignored.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import HistogramProto
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.types_pb2 import DT_DOUBLE, DT_FLOAT

from tensorboard_sidecar.logger_service.events.foreign_event import check_parts
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.names import UNPRINTABLE

# Larger events hold pictures, sounds or graphs. The histograms of a thousand layers are a tenth of this.
EVENT_SIZE_MAX_BYTES: Final = 2**26
# Smaller events are parsed at once: protobuf takes a few megabytes at most for them.
_CHECKED_SIZE_BYTES: Final = 2**16
# Tags whose plugin is remembered; hyperparameters of one event.
_TAGS_MAX: Final = 20_000
_SETTINGS_MAX: Final = 4_096
_SETTINGS_SIZE_MAX_BYTES: Final = 2**20
_SECONDS_MAX: Final = 1e11
_TRIPLE: Final = 3  # a histogram as a tensor has rows of left edge, right edge, count
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_TYPES: Final = {DT_FLOAT: ("float_val", "<f4"), DT_DOUBLE: ("double_val", "<f8")}


class Distribution(NamedTuple):
    """Moments of the values of one histogram. The sums of a tensor's histogram are those of the middles of buckets."""

    values: float
    minimum: float
    maximum: float
    sum: float
    sum_squares: float


@dataclass(slots=True)
class Watched:
    """What one event tells: values by tag, hyperparameters by name, and whether a session starts at ``step``.

    ``values`` counts all values of the event, those that no rule watches too.
    """

    step: int
    wall_time_ns: int
    scalars: dict[str, float] = field(default_factory=dict)
    histograms: dict[str, Distribution] = field(default_factory=dict)
    settings: dict[str, ParameterValue] = field(default_factory=dict)
    starts: bool = False
    values: int = 0


class EventReader:
    """Reads the events of one folder, in the order of writing; remembers the plugin of each tag."""

    def __init__(self) -> None:
        self._plugins: dict[str, str] = {}

    def read(self, payload: memoryview, part: str = "") -> Watched:
        """Return what an event tells; ``part`` comes before each tag.

        Raises Malformed or TooLarge for bytes that are no event of a usual size.
        """
        if len(payload) > EVENT_SIZE_MAX_BYTES:
            raise TooLarge("event in bytes", len(payload), EVENT_SIZE_MAX_BYTES)
        data = bytes(payload)
        if len(data) > _CHECKED_SIZE_BYTES:
            check_parts(data)
        try:
            event = Event.FromString(data)
        except DecodeError as error:
            raise Malformed(f"a frame that holds no event: {error!s:.80}") from None
        found = Watched(event.step, _nanoseconds(event.wall_time))
        match event.WhichOneof("what"):
            case "summary":
                found.values = len(event.summary.value)
                for value in event.summary.value:
                    self._take(found, value, part)
            case "session_log":
                found.starts = event.session_log.status == SessionLog.START
        return found

    def _take(self, found: Watched, value: Any, part: str) -> None:
        tag = _shown_tag(part + value.tag)
        form = value.WhichOneof("value")
        if form == "simple_value":  # nine values in ten
            found.scalars[tag] = value.simple_value
            return
        plugin = value.metadata.plugin_data.plugin_name
        if plugin and len(self._plugins) < _TAGS_MAX:
            self._plugins.setdefault(tag, plugin)
        plugin = plugin or self._plugins.get(tag, "")
        match form:
            case "histo":
                found.histograms[tag] = _of_histogram(value.histo)
            case "tensor" if plugin == "scalars":
                numbers = _numbers(value.tensor)
                if numbers.size == 1:
                    found.scalars[tag] = float(numbers[0])
            case "tensor" if plugin == "histograms":
                numbers = _numbers(value.tensor)
                if numbers.size and numbers.size % _TRIPLE == 0:
                    found.histograms[tag] = _of_rows(numbers.reshape(-1, _TRIPLE))
        if plugin == "hparams":
            found.settings.update(_settings(value.metadata.plugin_data.content))


@lru_cache(maxsize=4096)
def _shown_tag(tag: str) -> str:
    return UNPRINTABLE.sub(_REPLACEMENT, tag)[:TAG_MAX_CHARACTERS]


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9) if abs(seconds) < _SECONDS_MAX else 0  # NaN is not below


def _numbers(tensor: TensorProto) -> npt.NDArray[np.float64]:
    """Return the numbers of a tensor of floats; none for another type, or for bytes of a wrong length."""
    name, dtype = _TYPES.get(tensor.dtype, ("", "<f8"))
    if not name:
        return np.empty(0)
    listed = getattr(tensor, name)
    if listed:
        return np.array(listed, np.float64)
    content = tensor.tensor_content
    whole = len(content) % np.dtype(dtype).itemsize == 0
    return np.frombuffer(content if whole else b"", dtype).astype(np.float64)


def _of_histogram(histogram: HistogramProto) -> Distribution:
    return Distribution(histogram.num, histogram.min, histogram.max, histogram.sum, histogram.sum_squares)


def _of_rows(rows: npt.NDArray[np.float64]) -> Distribution:
    """Return the moments of a histogram with the rows left edge, right edge, count."""
    left, right, counts = rows.T
    some = counts > 0
    if not some.any():
        return Distribution(0.0, 0.0, 0.0, 0.0, 0.0)
    with np.errstate(all="ignore"):
        middles = (left + right) / 2
        total, squares = (counts * middles)[some].sum(), (counts * middles**2)[some].sum()
    return Distribution(*map(float, (counts[some].sum(), left[some][0], right[some][-1], total, squares)))


def _settings(content: bytes) -> Iterable[tuple[str, ParameterValue]]:
    """Return the hyperparameters of a session start; none of the other contents of the plugin."""
    if len(content) > _SETTINGS_SIZE_MAX_BYTES:
        return []
    try:
        parameters = HParamsPluginData.FromString(content).session_start_info.hparams
    except DecodeError:
        return []
    found: list[tuple[str, ParameterValue]] = []
    for name in sorted(parameters)[:_SETTINGS_MAX]:
        value = parameters[name]
        match value.WhichOneof("kind"):
            case "number_value" if math.isfinite(value.number_value):
                found.append((name, value.number_value))
            case "string_value":
                found.append((name, value.string_value))
            case "bool_value":
                found.append((name, value.bool_value))
    return found
