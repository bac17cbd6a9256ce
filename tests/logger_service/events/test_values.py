import io
import math
import wave

import numpy as np
import pytest
from support.recordings import summarise

from tensorboard_sidecar.logger_service.events.values import (
    audio_value,
    encode_wav,
    histogram_value,
    image_value,
    scalar_value,
    text_value,
)
from tensorboard_sidecar.logger_service.rendering.png import Picture
from tensorboard_sidecar.protocol.array import pack_array


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
