"""What event files show, in one form for every writer: values by folder and tag, decoded."""

import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from support.records.events import load_folder
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray


class Shown(NamedTuple):
    """One value: its step, time, form (the field of the summary), plugin, content in plain Python, numpy, and names."""

    step: int
    wall_time: float
    form: str
    plugin: str
    content: Any
    names: tuple[str, str] = ("", "")
    """The display name and the description."""


Found = dict[tuple[str, str], list[Shown]]


def shown_values(root: Path) -> Found:
    """Return the values in all event files below ``root``, in order, by folder and tag; graphs have the tag "graph"."""
    found: Found = {}
    for folder in sorted({path.parent for path in root.rglob("events.out.tfevents.*")}):
        name = folder.relative_to(root).as_posix()
        for tag, shown in _folder_values(folder):
            found.setdefault((name, tag), []).append(shown)
    return found


def _folder_values(folder: Path) -> Iterator[tuple[str, Shown]]:
    for written in load_folder(folder):
        event = Event.FromString(written.SerializeToString())
        if event.WhichOneof("what") == "graph_def":
            nodes = [node.name for node in GraphDef.FromString(event.graph_def).node]
            yield "graph", Shown(event.step, event.wall_time, "graph", "", nodes)
        for value in event.summary.value:
            if value.tag:
                plugin = value.metadata.plugin_data.plugin_name
                names = (value.metadata.display_name, value.metadata.summary_description)
                form = value.WhichOneof("value") or "metadata"
                yield value.tag, Shown(event.step, event.wall_time, form, plugin, _content(value, plugin, form), names)


def _content(value: Any, plugin: str, form: str) -> Any:
    if plugin == "hparams":
        return _hparams(HParamsPluginData.FromString(value.metadata.plugin_data.content))
    if plugin == "custom_scalars":
        return str(Layout.FromString(make_ndarray(value.tensor).item()))
    match form:
        case "simple_value":
            return np.float32(value.simple_value)
        case "histo":
            histo = value.histo
            moments = [histo.min, histo.max, histo.num, histo.sum, histo.sum_squares]
            return {"moments": moments, "buckets": [list(histo.bucket_limit), list(histo.bucket)]}
        case "image":
            return np.asarray(Image.open(io.BytesIO(value.image.encoded_image_string)).convert("RGBA"))
        case "audio":
            return _sound(value.audio)
        case "tensor":
            content = make_ndarray(value.tensor)
            return content if content.dtype != object else content.reshape(-1).tolist()
    return None


def _sound(audio: Any) -> tuple[float, int, np.ndarray[Any, Any]]:
    with wave.open(io.BytesIO(audio.encoded_audio_string)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert (audio.content_type, audio.num_channels) == ("audio/wav", file.getnchannels())
    return audio.sample_rate, audio.num_channels, samples


def _hparams(data: Any) -> Any:
    """Return hyperparameters as text, with bools as numbers: torch's writer has no bools."""
    kind = data.WhichOneof("data")
    if kind == "session_start_info":
        values = data.session_start_info.hparams.items()
        return kind, {name: _plain(value) for name, value in values}
    if kind == "experiment":
        domains = {info.name: list(info.domain_discrete) for info in data.experiment.hparam_infos}
        return kind, domains, sorted(info.name.tag for info in data.experiment.metric_infos)
    return kind, data.session_end_info.status


def _plain(value: Any) -> Any:
    plain = getattr(value, value.WhichOneof("kind"))
    return json.dumps(float(plain) if isinstance(plain, bool | float) else plain)
