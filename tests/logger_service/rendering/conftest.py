"""Fixtures for tests of pictures: decoding, and summaries of known values."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.records.known_summaries import summary_of

from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.protocol.messages import TensorSummary

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def decode() -> Callable[[Picture], Pixels]:
    """Decode a picture with Pillow, an independent decoder; check the declared size."""

    def read(picture: Picture) -> Pixels:
        with Image.open(io.BytesIO(picture.png)) as image:
            image.load()
            assert image.format == "PNG"
            assert image.size == (picture.width, picture.height)
            assert image.info == {}
            return np.asarray(image)

    return read


@pytest.fixture
def summarise() -> Callable[[npt.ArrayLike], TensorSummary]:
    """Summarise values as a trainer does, with 3 mantissa bits."""
    return summary_of
