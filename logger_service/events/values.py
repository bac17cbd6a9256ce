"""Content of TensorBoard's plugins: values of a summary, and the graph.

A value is the content of one tag, in a form that both loaders of TensorBoard read. Tags stay exactly as sent.
TensorBoard finds texts, audio, layouts and hyperparameters by the plugin name in the metadata, not by the tag.

All bytes are deterministic: the same message gives the same bytes in every process.
"""

import io
import math
import re
import wave
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from tensorboardX.proto import layout_pb2
from tensorboardX.proto.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboardX.proto.attr_value_pb2 import AttrValue
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.plugin_text_pb2 import TextPluginData
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboardX.proto.versions_pb2 import VersionDef

from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.array import Array
from tensorboard_sidecar.protocol.buckets import ordered_histogram
from tensorboard_sidecar.protocol.limits import TEXT_MAX_CHARACTERS

Value: TypeAlias = Summary.Value

# AudioPluginData(encoding=WAV) of tensorboard/plugins/audio/plugin_data.proto; tensorboardX has no such proto.
_AUDIO_IS_WAV: Final = b"\x10\x0b"
# The tag that tensorboard/plugins/custom_scalar/metadata.py looks for.
_LAYOUT_TAG: Final = "custom_scalars__config__"
# Tags of tensorboard/plugins/hparams/metadata.py.
_EXPERIMENT_TAG: Final = "_hparams_/experiment"
_SESSION_START_TAG: Final = "_hparams_/session_start_info"
_SESSION_END_TAG: Final = "_hparams_/session_end_info"
_DATA_TYPES: Final[dict[type, DataType]] = {
    bool: DataType.DATA_TYPE_BOOL,
    float: DataType.DATA_TYPE_FLOAT64,
    str: DataType.DATA_TYPE_STRING,
}
# Doubles hold every whole number up to this one.
_EXACT_MAX: Final = 2**53
# The attribute of a node that holds the labels of its edges (tensorboard/plugins/graph/tf_graph_common/graph.ts).
_OUTPUT_SHAPES: Final = "_output_shapes"
# The producer version in graphs of TensorFlow 1.x; TensorBoard needs no other field of the versions.
_GRAPH_PRODUCER: Final = 22
# The characters that python-markdown lets a backslash escape, and the column separator of its tables.
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]()>#+\-.!|])")
_LAST_ROW_MAX_CHARACTERS: Final = 40


def scalar_value(tag: str, number: float) -> Value:
    """Return one point of a curve as float32; numbers beyond the range of float32 become infinite."""
    return Value(tag=tag, simple_value=number)


def histogram_value(tag: str, summary: messages.TensorSummary) -> Value:
    """Return the histogram of the finite values."""
    limits, counts = ordered_histogram(summary)
    histogram = HistogramProto(
        min=summary.minimum,
        max=summary.maximum,
        num=counts.sum(),
        sum=summary.sum,
        sum_squares=summary.sum_squares,
        bucket_limit=limits.tolist(),
        bucket=counts.tolist(),
    )
    return Value(tag=tag, histo=histogram)


def image_value(tag: str, picture: Picture) -> Value:
    """Return a picture."""
    image = Summary.Image(width=picture.width, height=picture.height, encoded_image_string=picture.png)
    return Value(tag=tag, image=image)


def text_value(tag: str, text: str) -> Value:
    """Return a markdown text."""
    content = TextPluginData(version=0).SerializeToString()
    return plugin_value(tag, "text", content, tensor=_string_tensor([text.encode("utf-8", "replace")]))


def escape_markdown(text: str) -> str:
    r"""Return one line that renders as ``text``: white space is collapsed, special characters are escaped.

    >>> escape_markdown("a|b_c")
    'a\\|b\\_c'
    """
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def markdown_table(
    head: Sequence[str], rows: Sequence[Sequence[str]], characters_max: int = TEXT_MAX_CHARACTERS
) -> str:
    """Return a table of plain cells, at most ``characters_max``; the last row counts the rows that did not fit."""
    lines = [_row(head), _row(["---"] * len(head))]
    room = characters_max - sum(len(line) + 1 for line in lines) - _LAST_ROW_MAX_CHARACTERS
    for place, row in enumerate(rows):
        line = _row([escape_markdown(cell) for cell in row])
        room -= len(line) + 1
        if room < 0:
            lines.append(_row([f"*{len(rows) - place:,} more*", *[""] * (len(head) - 1)]))
            break
        lines.append(line)
    return "\n".join(lines)


def numbered_list(items: Iterable[str]) -> str:
    """Return a numbered list, from 1."""
    return "\n".join(f"{number}. {escape_markdown(item)}" for number, item in enumerate(items, 1))


def audio_value(tag: str, clips: Sequence[Array], sample_rate_hz: int) -> Value:
    """Return the clips, int16 ``[frames, channels]`` each, as the samples of one tag."""
    sounds = [encode_wav(clip, sample_rate_hz) for clip in clips]
    return plugin_value(tag, "audio", _AUDIO_IS_WAV, tensor=_string_tensor(sounds, (len(sounds),)))


def encode_wav(clip: Array, sample_rate_hz: int) -> bytes:
    """Return a WAV file (PCM, 16 bits) of int16 ``[frames, channels]``."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(clip.shape[1])
        sound.setsampwidth(2)
        sound.setframerate(sample_rate_hz)
        sound.writeframes(clip.data)
    return file.getvalue()


def layout_value(layout: messages.Layout) -> Value:
    """Return the layout of TensorBoard's custom scalars."""
    categories = [
        layout_pb2.Category(title=title, chart=[_chart(name, chart) for name, chart in charts.items()])
        for title, charts in layout.categories.items()
    ]
    content = layout_pb2.Layout(category=categories).SerializeToString()
    return plugin_value(_LAYOUT_TAG, "custom_scalars", tensor=_string_tensor([content]))


def shown_parameter(value: messages.ParameterValue) -> bool | float | str:
    """Return a hyperparameter as TensorBoard shows it: its numbers are doubles, and it hides those that are not finite.

    A whole number that no double holds, NaN and the infinities are texts.

    >>> shown_parameter(3), shown_parameter(True), shown_parameter(2**53 + 1), shown_parameter(float("inf"))
    (3.0, True, '9007199254740993', 'inf')
    """
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return float(value) if abs(value) <= _EXACT_MAX else str(value)
    return value if math.isfinite(value) else str(value)


def hparams_values(message: messages.HParams) -> list[Value]:
    """Return start and end of a session of TensorBoard's HParams, and one scalar a metric.

    The value for the experiment is there only with domains, which have no other place. TensorBoard takes the columns of
    all its rows from the first experiment that it finds; without an experiment, it takes the columns from all sessions,
    and from the scalars beside them. tensorboardX's own builder serialises maps in an order that differs between
    processes; these bytes are deterministic.
    """
    start, end = _session_start(message.parameters), SessionEndInfo(status=Status.STATUS_SUCCESS)
    experiment = [_experiment(message)] if message.domains else []
    return [
        *(_hparams_value(_EXPERIMENT_TAG, HParamsPluginData(experiment=one)) for one in experiment),
        _hparams_value(_SESSION_START_TAG, HParamsPluginData(session_start_info=start)),
        _hparams_value(_SESSION_END_TAG, HParamsPluginData(session_end_info=end)),
        *metric_values(message),
    ]


def metric_values(message: messages.HParams) -> list[Value]:
    """Return one scalar a metric."""
    return [scalar_value(tag, number) for tag, number in message.metrics.items()]


def graph_bytes(graph: messages.Graph) -> bytes:
    """Return the architecture of a model as a serialised GraphDef."""
    nodes = [_node(node) for node in graph.nodes]
    definition = GraphDef(node=nodes, versions=VersionDef(producer=_GRAPH_PRODUCER))
    serialised: bytes = definition.SerializeToString(deterministic=True)
    return serialised


def plugin_value(tag: str, plugin: str, content: bytes = b"", tensor: TensorProto | None = None) -> Value:
    """Return a value whose metadata assigns the value to one of TensorBoard's plugins."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))
    return Value(tag=tag, metadata=metadata, tensor=tensor)


def tensor_shape(sides: Sequence[int]) -> TensorShapeProto:
    """Return the shape of a tensor, the outermost side first."""
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=side) for side in sides])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _string_tensor(items: Iterable[bytes], shape: Sequence[int] = ()) -> TensorProto:
    """Return a tensor of byte strings, with no dimension by default."""
    return TensorProto(dtype="DT_STRING", string_val=items, tensor_shape=tensor_shape(shape))


def _chart(title: str, chart: messages.Chart) -> layout_pb2.Chart:
    if chart.kind == "multiline":
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=chart.tags))
    value, lower, upper = chart.tags
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))


def _session_start(parameters: Mapping[str, messages.ParameterValue]) -> SessionStartInfo:
    start = SessionStartInfo()
    for name, value in parameters.items():
        shown = shown_parameter(value)
        if isinstance(shown, bool):
            start.hparams[name].bool_value = shown
        elif isinstance(shown, str):
            start.hparams[name].string_value = shown
        else:
            start.hparams[name].number_value = shown
    return start


def _experiment(message: messages.HParams) -> Experiment:
    """Return the columns of the table, with the domains of those hyperparameters that have one."""
    infos = []
    for name, value in message.parameters.items():
        info = HParamInfo(name=name, type=_DATA_TYPES[type(shown_parameter(value))])
        if name in message.domains:
            info.domain_discrete.extend(map(shown_parameter, message.domains[name]))
        infos.append(info)
    return Experiment(
        hparam_infos=infos, metric_infos=[MetricInfo(name=MetricName(tag=tag)) for tag in message.metrics]
    )


def _hparams_value(tag: str, content: HParamsPluginData) -> Value:
    return plugin_value(tag, "hparams", content.SerializeToString(deterministic=True))


def _node(node: messages.GraphNode) -> NodeDef:
    attributes = {key: AttrValue(s=text.encode("utf-8", "replace")) for key, text in node.attributes.items()}
    if node.output_shapes:
        shapes = [tensor_shape(sides) for sides in node.output_shapes]
        attributes[_OUTPUT_SHAPES] = AttrValue(list=AttrValue.ListValue(shape=shapes))
    return NodeDef(name=node.name, op=node.operation, input=node.inputs, attr=attributes)
