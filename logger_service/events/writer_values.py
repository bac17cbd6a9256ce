"""Values of the kinds that a ``SummaryWriter`` makes, in the form that torch's and tensorboardX's writers give them.

The numbers of a tensor stand in the field of their type, as torch writes them. Float fields are packed little-endian
numbers: their bytes are copied as they are, and no Python object is made for a number. All bytes are deterministic.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tensorboardX.proto.plugin_mesh_pb2 import MeshPluginData
from tensorboardX.proto.plugin_pr_curve_pb2 import PrCurvePluginData
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto

from tensorboard_sidecar.logger_service.events.values import Value, encode_wav, plugin_value, tensor_shape
from tensorboard_sidecar.logger_service.rendering.animation import Animation
from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.array import Array

# DT_* by dtype (tensorflow/core/framework/types.proto), and the field of a TensorProto for the numbers. The protos of
# tensorboardX have neither name nor field for uint32 and uint64: numbers of these types stand in ``tensor_content``,
# which readers take for any type.
_FIELDS: Final[dict[str, tuple[str | int, str]]] = {
    "float32": ("DT_FLOAT", "float_val"),
    "float64": ("DT_DOUBLE", "double_val"),
    "float16": ("DT_HALF", "half_val"),
    "int8": ("DT_INT8", "int_val"),
    "uint8": ("DT_UINT8", "int_val"),
    "int16": ("DT_INT16", "int_val"),
    "uint16": ("DT_UINT16", "int_val"),
    "int32": ("DT_INT32", "int_val"),
    "int64": ("DT_INT64", "int64_val"),
    "uint32": (22, "tensor_content"),
    "uint64": (23, "tensor_content"),
}
# Whole numbers that a Python list may hold: 36 bytes each. More of them stand in ``tensor_content``.
_LIST_MAX: Final = 2**20
_LENGTH_DELIMITED: Final = 2
# ``components`` of TensorBoard's MeshPluginData (field 7), which tensorboardX's proto does not have; one byte follows.
_COMPONENTS_KEY: Final = b"\x38"
# The denominator of precision and recall where there are no samples.
_COUNT_MIN: Final = 1e-7


def point_value(point: messages.Point) -> Value:
    """Return one point of a curve in the form that the message names, with title and description if there are any."""
    metadata = SummaryMetadata(display_name=point.display_name, summary_description=point.description)
    if point.form == "simple":
        described = point.display_name or point.description
        return Value(tag=point.tag, metadata=metadata if described else None, simple_value=point.value)
    metadata.plugin_data.plugin_name = "scalars"
    if point.form == "double":
        tensor = TensorProto(dtype="DT_DOUBLE", double_val=[point.value])
    else:
        tensor = TensorProto(dtype="DT_FLOAT", float_val=[point.value])
    return Value(tag=point.tag, metadata=metadata, tensor=tensor)


def single_audio_value(audio: messages.Audio) -> Value:
    """Return the one clip of a message as a ``Summary.Audio``."""
    (clip,) = audio.clips
    sound = Summary.Audio(
        sample_rate=audio.sample_rate_hz,
        num_channels=clip.shape[1],
        length_frames=clip.shape[0],
        encoded_audio_string=encode_wav(clip, audio.sample_rate_hz),
        content_type="audio/wav",
    )
    return Value(tag=audio.tag, audio=sound)


def finished_histogram_value(histogram: messages.Histogram) -> Value:
    """Return a histogram as given."""
    counted = HistogramProto(
        min=histogram.minimum,
        max=histogram.maximum,
        num=histogram.count,
        sum=histogram.sum,
        sum_squares=histogram.sum_squares,
        bucket_limit=histogram.limits.numpy().tolist(),
        bucket=histogram.counts.numpy().tolist(),
    )
    return Value(tag=histogram.tag, histo=counted)


def animation_value(tag: str, shown: Animation) -> Value:
    """Return an animated picture."""
    image = Summary.Image(
        width=shown.width, height=shown.height, colorspace=shown.channels, encoded_image_string=shown.gif
    )
    return Value(tag=tag, image=image)


def pr_curve_value(tag: str, rows: npt.NDArray[np.floating[Any]]) -> Value:
    """Return a precision-recall curve, ``[6, thresholds]``: see :func:`count_at_thresholds`."""
    content = PrCurvePluginData(version=0, num_thresholds=rows.shape[1]).SerializeToString()
    return plugin_value(tag, "pr_curves", content, _float_tensor(rows))


def count_at_thresholds(curve: messages.PrCurve) -> npt.NDArray[np.float64]:
    """Return ``[6, thresholds]``: true and false positives, true and false negatives, precision, recall.

    As ``compute_curve`` of torch and tensorboardX, which follow tensorboard/plugins/pr_curve/summary.py: a sample with
    the prediction p is positive at the thresholds 0 to ``floor(p * (thresholds - 1))``. Samples for which this is no
    threshold (p is outside of 0..1, or NaN) are not counted.
    """
    thresholds = curve.threshold_count
    with np.errstate(over="ignore", invalid="ignore"):
        places = np.floor(curve.predictions.numpy() * np.float32(thresholds - 1))
        counted = (places >= 0) & (places <= thresholds - 1)
    places = places[counted].astype(np.intp)
    positive = curve.labels.numpy()[counted].astype(np.float64)
    weights = 1.0 if curve.weights is None else curve.weights.numpy()[counted].astype(np.float64)
    hits, misses = (
        np.bincount(places, part * weights, thresholds)[::-1].cumsum()[::-1] for part in (positive, 1.0 - positive)
    )
    true_negatives, false_negatives = misses[0] - misses, hits[0] - hits
    precision = hits / np.maximum(_COUNT_MIN, hits + misses)
    recall = hits / np.maximum(_COUNT_MIN, hits + false_negatives)
    return np.stack((hits, misses, true_negatives, false_negatives, precision, recall))


def mesh_values(mesh: messages.Mesh) -> list[Value]:
    """Return a value each for vertices, faces and colours, as TensorBoard's mesh plugin reads them."""
    kinds = MeshPluginData.ContentType
    parts = [(kinds.VERTEX, mesh.vertices), (kinds.FACE, mesh.faces), (kinds.COLOR, mesh.colors)]
    given = [(kind, array) for kind, array in parts if array is not None]
    components = bytes((sum(1 << kind for kind, _ in given),))
    shown = []
    for kind, array in given:
        data = MeshPluginData(
            version=0, name=mesh.tag, content_type=kind, json_config=mesh.config or "{}", shape=array.shape
        )
        content = data.SerializeToString() + _COMPONENTS_KEY + components
        tensor = _float_tensor(array.numpy())
        shown.append(plugin_value(f"{mesh.tag}_{kinds.Name(kind)}", "mesh", content, tensor))
    return shown


def tensor_value(message: messages.Tensor) -> Value:
    """Return the values of a tensor."""
    return plugin_value(message.tag, "tensor", tensor=_tensor(message.values))


def _tensor(array: Array) -> TensorProto:
    name, field = _FIELDS[array.dtype]
    numbers = array.numpy()
    tensor = TensorProto(dtype=name, tensor_shape=tensor_shape(array.shape))
    if array.dtype in ("float32", "float64"):
        return _with_packed(tensor, field, array.data)
    if field == "tensor_content" or numbers.size > _LIST_MAX:
        tensor.tensor_content = array.data
    else:
        bits = numbers.view(np.uint16) if array.dtype == "float16" else numbers
        getattr(tensor, field).extend(bits.ravel().tolist())
    return tensor


def _float_tensor(numbers: npt.NDArray[Any]) -> TensorProto:
    """Return numbers of any dtype as a tensor of float32."""
    tensor = TensorProto(dtype="DT_FLOAT", tensor_shape=tensor_shape(numbers.shape))
    with np.errstate(over="ignore"):
        return _with_packed(tensor, "float_val", np.ascontiguousarray(numbers, "<f4").tobytes())


def _with_packed(tensor: TensorProto, field: str, data: bytes) -> TensorProto:
    """Return a tensor with a field of packed numbers, from their little-endian bytes."""
    key = TensorProto.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED
    head, size = bytearray((key,)), len(data)
    while size > 0x7F:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    if data:
        tensor.MergeFromString(b"".join((head, data)))
    return tensor
