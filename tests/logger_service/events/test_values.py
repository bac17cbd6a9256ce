import io
import math
import wave
from typing import Any

import markdown
import numpy as np
import pytest
from support.records.recordings import summarise
from tensorboardX.proto.api_pb2 import DataType
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.layout_pb2 import Layout as LayoutProto
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
from tensorboardX.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams as torch_hparams

from tensorboard_sidecar.logger_service.events.values import (
    audio_value,
    encode_wav,
    escape_markdown,
    graph_bytes,
    histogram_value,
    hparams_values,
    image_value,
    layout_value,
    markdown_table,
    metric_values,
    numbered_list,
    scalar_value,
    text_value,
)
from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Chart, Graph, GraphNode, HParams, Layout, ParameterValue

HPARAMS = HParams({"lr": 0.1, "epochs": 3, "compile": True, "precision": "bf16"}, {"best": 0.5, "recall": 1.0})


def test_a_text_keeps_its_tag() -> None:
    """TensorBoard knows text by the plugin's name; tensorboardX would write samples/captions/text_summary."""
    value = text_value("samples/captions", "| a |\n| --- |\n| \N{SNOWMAN} |")
    assert value.tag == "samples/captions"
    assert value.metadata.plugin_data.plugin_name == "text"
    assert value.tensor.string_val == ["| a |\n| --- |\n| \N{SNOWMAN} |".encode()]


@pytest.mark.parametrize(("number", "shown"), [(1.5, 1.5), (1e300, math.inf), (-1e300, -math.inf), (1e-300, 0.0)])
def test_scalars_are_float32(number: float, shown: float) -> None:
    assert scalar_value("a", number).simple_value == shown


def test_a_scalar_may_be_no_number() -> None:
    assert math.isnan(scalar_value("a", math.nan).simple_value)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_a_clip_becomes_a_wav_file_with_the_same_samples(channels: int) -> None:
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, (50, channels)).astype(np.int16)
    with wave.open(io.BytesIO(encode_wav(pack_array(samples), 16_000))) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getsampwidth()) == (channels, 16_000, 2)
        assert np.array_equal(np.frombuffer(sound.readframes(50), "<i2").reshape(50, channels), samples)


def test_clips_are_samples_of_one_tag() -> None:
    clip = pack_array(np.zeros((3, 1), np.int16))
    value = audio_value("samples/audio", [clip, clip], 8_000)
    assert value.tensor.tensor_shape.dim[0].size == len(value.tensor.string_val) == 2
    assert value.metadata.plugin_data.plugin_name == "audio"


def test_a_histogram_counts_every_finite_value_between_its_limits() -> None:
    histogram = histogram_value("w", summarise([-2.0, -1.0, 0.5, 0.5, 3.0])).histo
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (-2.0, 3.0, 5.0, 1.0)
    assert sum(histogram.bucket) == 5
    assert len(histogram.bucket) == len(histogram.bucket_limit)
    assert list(histogram.bucket_limit) == sorted(histogram.bucket_limit)


def test_a_picture_keeps_its_bytes() -> None:
    image = image_value("a", Picture(b"png", 3, 2)).image
    assert (image.width, image.height, image.encoded_image_string) == (3, 2, b"png")


def test_a_layout_keeps_categories_charts_and_tags_in_order() -> None:
    charts = {"b": Chart("multiline", ["^loss/.*$", "^x$"]), "a": Chart("margin", ["mean", "low", "high"])}
    value = layout_value(Layout({"second": charts, "first": {}}))
    layout = LayoutProto.FromString(value.tensor.string_val[0])
    assert value.tag == "custom_scalars__config__"
    assert [category.title for category in layout.category] == ["second", "first"]
    lines, margin = layout.category[0].chart
    assert (lines.title, list(lines.multiline.tag)) == ("b", ["^loss/.*$", "^x$"])
    series = margin.margin.series[0]
    assert (margin.title, series.value, series.lower, series.upper) == ("a", "mean", "low", "high")


def started(message: HParams) -> dict[str, Any]:
    """Return the hyperparameters of the session as TensorBoard reads them."""
    start = HParamsPluginData.FromString(hparams_values(message)[0].metadata.plugin_data.content).session_start_info
    return {name: getattr(value, str(value.WhichOneof("kind"))) for name, value in start.hparams.items()}


def test_parameters_keep_their_types() -> None:
    assert started(HPARAMS) == {"lr": 0.1, "epochs": 3.0, "compile": True, "precision": "bf16"}
    assert started(HPARAMS)["compile"] is True


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (2**53, 2.0**53),
        (-(2**53), -(2.0**53)),
        (2**53 + 1, "9007199254740993"),
        (-(2**63), "-9223372036854775808"),
        (2**64 - 1, "18446744073709551615"),
        (False, False),
        (0, 0.0),
        ("", ""),
    ],
)
def test_a_parameter_that_no_number_of_tensorboard_shows_is_a_text(value: float | str, shown: float | str) -> None:
    """TensorBoard leaves the cell of a number that is not finite empty, and doubles round large whole numbers."""
    assert started(HParams({"a": value}, {})) == {"a": shown}
    assert type(started(HParams({"a": value}, {}))["a"]) is type(shown)


def test_a_session_has_a_start_an_end_and_its_metrics_and_no_experiment() -> None:
    """The first experiment of a log directory would hide the columns of all others."""
    tags = [value.tag for value in hparams_values(HPARAMS)]
    assert tags == ["_hparams_/session_start_info", "_hparams_/session_end_info", "best", "recall"]
    assert [(value.tag, value.simple_value) for value in metric_values(HPARAMS)] == [("best", 0.5), ("recall", 1.0)]


def test_domains_are_in_the_experiment_as_torchs_writer_writes_them() -> None:
    parameters, metrics = {"lr": 0.1, "layers": 3, "name": "a"}, {"accuracy": 0.5, "loss": 1.0}
    domains: dict[str, list[ParameterValue]] = {"lr": [0.1, 0.2], "name": ["a", "b"]}
    experiment, *others = hparams_values(HParams(parameters, metrics, "row", domains))
    expected = torch_hparams(parameters, metrics, domains)[0].SerializeToString()
    assert Summary(value=[experiment]).SerializeToString() == expected
    assert others == hparams_values(HParams(parameters, metrics))


def test_a_domain_of_truth_values_keeps_their_type() -> None:
    experiment = hparams_values(HParams({"amp": True}, {}, "row", {"amp": [True, False]}))[0]
    (info,) = HParamsPluginData.FromString(experiment.metadata.plugin_data.content).experiment.hparam_infos
    assert info.type == DataType.DATA_TYPE_BOOL
    assert list(info.domain_discrete) == [True, False]


def test_no_time_is_told() -> None:
    """The times of a session would be the logger's clock; replay must give the same bytes."""
    start, end = (
        HParamsPluginData.FromString(value.metadata.plugin_data.content) for value in hparams_values(HPARAMS)[:2]
    )
    assert start.session_start_info.start_time_secs == 0
    assert end.session_end_info.end_time_secs == 0


def test_nodes_keep_names_inputs_shapes_and_attributes() -> None:
    nodes = [
        GraphNode("input", "Input", output_shapes=[[-1, 3], []]),
        GraphNode("a/b", "Linear", ["input"], [], {"bias": "no"}),
    ]
    first, second = GraphDef.FromString(graph_bytes(Graph(nodes))).node
    shapes = first.attr["_output_shapes"].list.shape
    assert [[side.size for side in shape.dim] for shape in shapes] == [[-1, 3], []]
    assert (second.name, second.op, list(second.input), second.attr["bias"].s) == ("a/b", "Linear", ["input"], b"no")


def test_the_order_of_attributes_does_not_matter() -> None:
    """Maps are serialised in the order of their keys."""
    names = [f"attribute {number}" for number in range(50)]
    one, other = (Graph([GraphNode("a", "b", attributes=dict.fromkeys(order, "x"))]) for order in (names, names[::-1]))
    assert graph_bytes(one) == graph_bytes(other)


def render(text: str) -> str:
    """Render as TensorBoard does (tensorboard/plugin_util.py)."""
    html: str = markdown.markdown(text, extensions=["markdown.extensions.tables", "markdown.extensions.fenced_code"])
    return html


@pytest.mark.parametrize(
    "text", ["__init__", "a|b", "`x`", r"back\slash", "# no head", "[a](b)", "1. x", "*", "!", "{a}", "a-b"]
)
def test_plain_text_is_shown_as_it_is_spelt(text: str) -> None:
    assert render(escape_markdown(text)) == f"<p>{text}</p>"


def test_plain_text_is_one_line() -> None:
    assert escape_markdown(" a\n\tb  c\r\n") == "a b c"


def test_a_table_has_as_many_cells_as_came() -> None:
    html = render(markdown_table(("setting", "value"), [("a|b", "x | y"), ("c", "")]))
    assert html.count("<td>") == 4
    assert "<td>a|b</td>\n<td>x | y</td>" in html


def test_a_table_of_too_many_characters_says_how_many_rows_are_left_out() -> None:
    rows = [(f"setting {number}", "x" * 50) for number in range(100)]
    whole, cut = markdown_table(("setting", "value"), rows), markdown_table(("setting", "value"), rows, 1000)
    assert whole.count("\n") == 101
    assert len(cut) <= 1000
    kept = cut.count("\n") - 2
    assert cut.splitlines()[:-1] == whole.splitlines()[: kept + 2]
    assert f"<td><em>{100 - kept} more</em></td>\n<td></td>" in render(cut)


def test_a_list_is_numbered_from_one() -> None:
    assert render(numbered_list(["a circle", "# two"])) == "<ol>\n<li>a circle</li>\n<li># two</li>\n</ol>"
