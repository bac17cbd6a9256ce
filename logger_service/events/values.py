"""Values of a summary: one tag's content in the form both of TensorBoard's loaders take.

Tags stand exactly as sent. TensorBoard tells text and audio by the plugin named in the metadata, not by the tag.
"""

import io
import wave
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from tensorboardX.proto.plugin_text_pb2 import TextPluginData
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto

from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.protocol.array import Array
from tensorboard_sidecar.protocol.buckets import ordered_histogram
from tensorboard_sidecar.protocol.messages import TensorSummary

Value: TypeAlias = Summary.Value

# AudioPluginData(encoding=WAV) of tensorboard/plugins/audio/plugin_data.proto, which tensorboardX does not carry.
_AUDIO_IS_WAV: Final = b"\x10\x0b"


def scalar_value(tag: str, number: float) -> Value:
    """Return one point of a curve; float32, beyond its range infinite."""
    return Value(tag=tag, simple_value=number)


def histogram_value(tag: str, summary: TensorSummary) -> Value:
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
    """Return markdown."""
    metadata = plugin_metadata("text", TextPluginData(version=0).SerializeToString())
    return Value(tag=tag, metadata=metadata, tensor=string_tensor([text.encode("utf-8", "replace")]))


def audio_value(tag: str, clips: Sequence[Array], sample_rate_hz: int) -> Value:
    """Return the clips, int16 ``[frames, channels]`` each, as the samples of one tag."""
    sounds = [encode_wav(clip, sample_rate_hz) for clip in clips]
    return Value(
        tag=tag, metadata=plugin_metadata("audio", _AUDIO_IS_WAV), tensor=string_tensor(sounds, (len(sounds),))
    )


def encode_wav(clip: Array, sample_rate_hz: int) -> bytes:
    """Return a WAV file (PCM, 16 bits) of int16 ``[frames, channels]``."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(clip.shape[1])
        sound.setsampwidth(2)
        sound.setframerate(sample_rate_hz)
        sound.writeframes(clip.data)
    return file.getvalue()


def plugin_metadata(plugin: str, content: bytes = b"") -> SummaryMetadata:
    """Return the metadata that hands a value to one of TensorBoard's plugins."""
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))


def string_tensor(items: Iterable[bytes], shape: Sequence[int] = ()) -> TensorProto:
    """Return a tensor of byte strings; a scalar by default."""
    sides = [TensorShapeProto.Dim(size=side) for side in shape]
    return TensorProto(dtype="DT_STRING", string_val=items, tensor_shape=TensorShapeProto(dim=sides))
