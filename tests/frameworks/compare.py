"""What a training logged: the values in the event files below its folder, so that two loggers can be compared.

docs/DIFFERENCES.md lists in what the writers differ; nothing else is left out here.
"""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pytest
from PIL import Image
from support.records.events import load_folder
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import RunEnd
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader, require_recordings

# Tags that this project adds to a run. A blank event has the id of a record that shows nothing.
OUR_OWN: Final = re.compile(r"(run|telemetry)/|findings(/|$)|$")
# Durations, which are different in each training: compared by tag and step alone.
DURATIONS: Final = re.compile(r"runtime|per_second|/fps$|time_elapsed")
# Torch's writer names a folder of hyperparameters by the time.
TIME: Final = re.compile(r"\d{9,11}\.\d+")
# The tag of an embedding, without the step, and the file of its labels.
EMBEDDING: Final = re.compile(r'tensor_name: "(\w+)[^"]*".*?metadata_path: "([^"]+)"', re.DOTALL)
# ``add_hparams`` of torch's writer lists the names in each row's folder, and TensorBoard then shows the names of the
# first row alone. A row of this project has no such list: TensorBoard takes the names from all rows.
NAMES_OF_ROW: Final = re.compile(r"(.*/)?<time>:_hparams_/experiment")


class Curve(NamedTuple):
    """The name of a series of values: its folder below the log folder, its tag, and its plugin or kind of value."""

    folder: str
    tag: str
    kind: str


Events: TypeAlias = dict[Curve, list[tuple[int, Any]]]


def events_of(log_dir: Path) -> Events:
    """Return the steps and values of each curve in and below ``log_dir``, without this project's own curves."""
    found: Events = {}
    for folder in sorted({path.parent for path in log_dir.rglob("events.out.tfevents.*")}):
        name = TIME.sub("<time>", folder.relative_to(log_dir).as_posix())
        # By time: the names of torch's files end with a counter, in which 10 is before 9.
        for event in sorted(load_folder(folder), key=lambda event: event.wall_time):
            for tag, kind, value in _values(event):
                if not OUR_OWN.match(tag):
                    found.setdefault(Curve(name, tag, kind), []).append((event.step, value))
    for config in log_dir.rglob("projector_config.pbtxt"):
        for tag, labels in EMBEDDING.findall(config.read_text()):
            name = config.parent.relative_to(log_dir).as_posix()
            found[Curve(name, tag, "embedding")] = [(0, (config.parent / labels).read_text())]
    return found


def assert_same_events(ours: Events, stock: Events) -> None:
    """Check that two trainings logged the same tags, in the same folders, at the same steps, with the same values."""
    stock = {curve: points for curve, points in stock.items() if not NAMES_OF_ROW.match(f"{curve.folder}:{curve.tag}")}
    missing, added = sorted(stock.keys() - ours.keys()), sorted(ours.keys() - stock.keys())
    assert (missing, added) == ([], []), f"missing: {missing}; not of the stock logger: {added}"
    different = {
        curve: (ours[curve], points) for curve, points in stock.items() if not _same(curve, ours[curve], points)
    }
    lines = [f"{curve}:\n  ours  {ours_}\n  stock {points}" for curve, (ours_, points) in different.items()]
    assert not different, "\n".join(lines)


def status_of(log_dir: Path) -> str:
    """Return how the run in ``log_dir`` ended, from the last record of the newest recording."""
    ends = []
    for folder in require_recordings([log_dir / RECORDING_NAME]):
        reader = RecordingReader(folder)
        records = [record for chunk in iter(reader.read, []) for record in chunk]
        reader.close()
        last = decode_message(records[-1])
        ends.append((records[-1].wall_time_ns, last.status if isinstance(last, RunEnd) else "running"))
    return max(ends)[1]


def _same(curve: Curve, ours: list[tuple[int, Any]], stock: list[tuple[int, Any]]) -> bool:
    """Tell whether the steps are equal, and the values to the precision of float32; of durations, the steps alone."""
    if [step for step, _ in ours] != [step for step, _ in stock]:
        return False
    accuracy = 1.0 if curve.kind.startswith("image") else 1e-12  # torch's writer truncates pixels
    return bool(DURATIONS.search(curve.tag)) or all(
        one == other if isinstance(other, str | dict | bytes) else one == pytest.approx(other, rel=1e-6, abs=accuracy)
        for (_, one), (_, other) in zip(ours, stock, strict=True)
    )


def _values(event: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the tag, the kind and the value of each part of an event."""
    if event.WhichOneof("what") == "graph_def":
        yield "graph", "graph", 1
    for value in event.summary.value:
        plugin = value.metadata.plugin_data.plugin_name
        kind = value.WhichOneof("value")
        match kind, plugin:
            case _, "hparams":
                yield value.tag, plugin, _hparams(value.metadata.plugin_data.content)
            case "simple_value", _:
                yield value.tag, kind, value.simple_value
            case "histo", _:
                # The loggers differ in their buckets: the whole is compared.
                histogram = value.histo
                yield value.tag, kind, [histogram.num, histogram.min, histogram.max, histogram.sum]
            case "image", _:
                picture = np.asarray(
                    Image.open(io.BytesIO(value.image.encoded_image_string)).convert("RGB"), np.float64
                )
                yield value.tag, f"image {picture.shape}", list(picture.mean((0, 1)))
            case "tensor", "text":
                yield value.tag, plugin, b"\n".join(value.tensor.string_val).decode()
            case "tensor", _:
                yield value.tag, plugin, list(value.tensor.float_val) or value.tensor.tensor_content
            case _:
                yield value.tag, f"{kind} {plugin}", None


def _hparams(content: bytes) -> dict[str, Any]:
    """Return the part of a row of hyperparameters: the names, the values, or the status; without times."""
    data = HParamsPluginData.FromString(content)
    match data.WhichOneof("data"):
        case "experiment":
            names = sorted(info.name for info in data.experiment.hparam_infos)
            return {"names": names, "metrics": sorted(info.name.tag for info in data.experiment.metric_infos)}
        case "session_start_info":
            values = data.session_start_info.hparams
            return {name: _parameter(values[name]) for name in values}
        case _:
            return {"status": data.session_end_info.status}


def _parameter(value: Any) -> str | float:
    """Return a value; torch's writer makes a number of a bool."""
    kind = value.WhichOneof("kind")
    return str(value.string_value) if kind == "string_value" else float(getattr(value, kind))
