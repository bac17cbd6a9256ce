"""Values of the kinds that a SummaryWriter makes, compared with those that torch's writer makes of the same numbers."""

import io
import math
import wave
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from support.records.golden import RECORDS
from tensorboard.plugins.mesh.plugin_data_pb2 import MeshPluginData
from tensorboard.util import tensor_util
from tensorboardX.proto.summary_pb2 import Summary
from torch.utils.tensorboard import summary as torchs

from tensorboard_sidecar.logger_service.events import writer_values
from tensorboard_sidecar.logger_service.events.values import Value
from tensorboard_sidecar.logger_service.events.writer_values import (
    animation_value,
    count_at_thresholds,
    finished_histogram_value,
    mesh_values,
    point_value,
    pr_curve_value,
    single_audio_value,
    tensor_value,
)
from tensorboard_sidecar.logger_service.rendering.animation import Animation
from tensorboard_sidecar.protocol.array import DTYPES, pack_array
from tensorboard_sidecar.protocol.messages import Audio, Histogram, Mesh, Point, PrCurve, Tensor


def of_torch(made: Any) -> list[Value]:
    """Return the values of a summary of torch's writer, read with this project's protos."""
    return list(Summary.FromString(made.SerializeToString()).value)


def numbers_of(value: Value) -> npt.NDArray[Any]:
    """Return the numbers of a tensor as TensorBoard reads them."""
    proto = tensor_util.tensor_pb2.TensorProto.FromString(value.tensor.SerializeToString())
    return np.asarray(tensor_util.make_ndarray(proto))


def samples(count: int, seed: int = 0, *, weighted: bool = False, thresholds: int = 127) -> PrCurve:
    random = np.random.default_rng(seed)
    weights = pack_array(random.uniform(0, 4, count).astype(np.float32)) if weighted else None
    labels = pack_array(random.integers(0, 2, count).astype(np.uint8))
    return PrCurve("pr", labels, pack_array(random.uniform(size=count).astype(np.float32)), thresholds, weights)


@pytest.mark.parametrize("number", [0.1, -5.0, 1e300, math.inf])
def test_a_point_has_the_form_of_torchs_writer(number: float) -> None:
    for form, options in (
        ("simple", {}),
        ("float", {"new_style": True}),
        ("double", {"new_style": True, "double_precision": True}),
    ):
        (expected,) = of_torch(torchs.scalar("a", torch.tensor(number, dtype=torch.float64), **options))
        assert point_value(Point("a", number, form)) == expected  # type: ignore[arg-type]


def test_a_double_keeps_its_digits_and_a_float_loses_some() -> None:
    assert numbers_of(point_value(Point("a", 0.1, "double"))) == 0.1
    assert numbers_of(point_value(Point("a", 0.1, "float"))) == np.float32(0.1)


@pytest.mark.parametrize("form", ["simple", "float", "double"])
def test_title_and_description_are_in_the_metadata_of_every_form(form: Any) -> None:
    metadata = point_value(Point("a", 0.5, form, "title", "**d**")).metadata
    assert (metadata.display_name, metadata.summary_description) == ("title", "**d**")
    assert not point_value(Point("a", 0.5)).HasField("metadata")
    assert point_value(Point("a", 0.5, "simple", "", "d")).metadata.summary_description == "d"


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("thresholds", [1, 2, 5, 127])
def test_samples_are_counted_as_torchs_writer_counts_them(count: int, weighted: bool, thresholds: int) -> None:
    curve = samples(count, weighted=weighted, thresholds=thresholds)
    weights = None if curve.weights is None else curve.weights.numpy()
    expected = torchs.compute_curve(curve.labels.numpy(), curve.predictions.numpy(), thresholds, weights)
    np.testing.assert_allclose(count_at_thresholds(curve), expected, rtol=1e-12, atol=1e-12)


def test_a_precision_recall_curve_is_that_of_torchs_writer() -> None:
    curve = samples(200)
    (expected,) = of_torch(torchs.pr_curve("pr", curve.labels.numpy(), curve.predictions.numpy()))
    assert pr_curve_value("pr", count_at_thresholds(curve)) == expected
    rows = np.random.default_rng(1).uniform(size=(6, 5)).astype(np.float32)
    (raw,) = of_torch(torchs.pr_curve_raw("raw", *rows, num_thresholds=5))
    assert pr_curve_value("raw", rows) == raw


@pytest.mark.filterwarnings("error")
def test_a_prediction_that_reaches_no_threshold_counts_nowhere() -> None:
    odd = np.array([math.nan, math.inf, -math.inf, 3e38, -0.1, 1.5, 0.5], np.float32)
    curve = PrCurve("pr", pack_array(np.ones(7, np.uint8)), pack_array(odd), 3)
    assert count_at_thresholds(curve)[0].tolist() == [1, 1, 0]


def test_a_clip_is_the_audio_summary_of_torchs_writer() -> None:
    sound = np.linspace(-1, 1, 50, dtype=np.float32)
    (expected,) = of_torch(torchs.audio("say", sound, 8_000))
    clip = (sound * np.iinfo(np.int16).max).astype(np.int16)[:, None]
    assert single_audio_value(Audio("say", [pack_array(clip)], 8_000, single=True)) == expected


def test_a_clip_of_two_channels_is_an_audio_summary_too() -> None:
    audio = single_audio_value(Audio("say", [pack_array(np.zeros((5, 2), np.int16))], 8_000, single=True)).audio
    assert (audio.num_channels, audio.length_frames, audio.sample_rate) == (2, 5, 8_000)
    with wave.open(io.BytesIO(audio.encoded_audio_string)) as file:
        assert (file.getnchannels(), file.getnframes()) == (2, 5)


def test_a_finished_histogram_is_that_of_torchs_writer() -> None:
    limits, counts = [-1.0, 0.5, 1.7e308], [1.0, 0.0, 5.0]
    (expected,) = of_torch(torchs.histogram_raw("h", -2.0, 3.0, 6.0, 4.0, 9.5, limits, counts))
    message = Histogram("h", -2.0, 3.0, 6.0, 4.0, 9.5, pack_array(np.array(limits)), pack_array(np.array(counts)))
    assert finished_histogram_value(message) == expected


@pytest.mark.parametrize("given", [(), ("colors",), ("faces",), ("colors", "faces")])
def test_a_mesh_is_that_of_torchs_writer(given: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    vertices = random.normal(size=(2, 4, 3)).astype(np.float32)
    colors = random.integers(0, 256, (2, 4, 3), np.uint8) if "colors" in given else None
    faces = random.integers(0, 4, (2, 5, 3)).astype(np.int32) if "faces" in given else None
    config = {"material": {"cls": "PointsMaterial", "size": 2}}
    expected = of_torch(torchs.mesh("m", vertices, colors, faces, config))
    packed = [None if array is None else pack_array(array) for array in (colors, faces)]
    found = mesh_values(Mesh("m", pack_array(vertices), *packed, '{"material": {"cls": "PointsMaterial", "size": 2}}'))
    assert [value.tag for value in found] == [value.tag for value in expected]
    assert [value.tensor for value in found] == [value.tensor for value in expected]
    contents = [
        [MeshPluginData.FromString(value.metadata.plugin_data.content) for value in values]
        for values in (found, expected)
    ]
    assert contents[0] == contents[1]
    assert {value.metadata.plugin_data.plugin_name for value in found} == {"mesh"}


def test_a_mesh_without_a_config_has_an_empty_one() -> None:
    (value,) = mesh_values(Mesh("m", pack_array(np.zeros((1, 1, 3), np.float32))))
    assert MeshPluginData.FromString(value.metadata.plugin_data.content).json_config == "{}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 1)])
def test_a_tensor_keeps_its_numbers_its_shape_and_its_dtype(
    dtype: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = math.prod(shape)
    numbers = (np.arange(count) - (0 if dtype.startswith("u") else 2)).astype(dtype).reshape(shape)
    for list_max in (2**20, 0):
        monkeypatch.setattr(writer_values, "_LIST_MAX", list_max)
        value = tensor_value(Tensor("t", pack_array(numbers)))
        assert value.metadata.plugin_data.plugin_name == "tensor"
        if dtype in ("uint32", "uint64") and not count:  # TensorBoard reads no empty tensor of these types
            assert [side.size for side in value.tensor.tensor_shape.dim] == list(shape)
            continue
        found = numbers_of(value)
        assert (found.dtype, found.shape) == (np.dtype(dtype), shape)
        np.testing.assert_array_equal(found, numbers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64])
def test_a_tensor_is_that_of_torchs_writer(dtype: torch.dtype) -> None:
    numbers = torch.arange(-3, 3).reshape(2, 3).to(dtype)
    (expected,) = of_torch(torchs.tensor_proto("t", numbers))
    assert tensor_value(Tensor("t", pack_array(numbers.numpy()))) == expected


def test_large_tensors_are_packed_as_protobuf_packs_them() -> None:
    """The length of the field takes one to four bytes."""
    for count in (1, 31, 32, 5_000, 600_000):
        numbers = np.arange(count, dtype=np.float32)
        assert list(tensor_value(Tensor("t", pack_array(numbers))).tensor.float_val) == numbers.tolist()


def test_an_animation_keeps_its_bytes() -> None:
    image = animation_value("v", Animation(b"gif", 3, 2, 1)).image
    assert (image.width, image.height, image.colorspace, image.encoded_image_string) == (3, 2, 1, b"gif")


def test_the_golden_examples_are_shown() -> None:
    (value,) = [point_value(RECORDS["point"].message)]  # type: ignore[arg-type]
    assert (value.tag, value.metadata.display_name, numbers_of(value)) == ("pt", "title", 0.1)
