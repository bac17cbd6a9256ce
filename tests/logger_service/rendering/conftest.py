"""What the tests of pictures share: reading them back, and summaries of known values."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from logger_service.rendering.png import Picture
from protocol.array import pack_array
from protocol.messages import TensorSummary

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def decode() -> Callable[[Picture], Pixels]:
    """Read a picture back with Pillow, a decoder that is not ours; check the size it says it has."""

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

    def summary(values: npt.ArrayLike) -> TensorSummary:
        tensor = np.asarray(values, np.float32).ravel()
        finite = tensor[np.isfinite(tensor)]
        indexes, counts = np.unique((finite.view(np.uint32) >> 20).astype(np.uint16), return_counts=True)
        around_zero = (indexes & 0x7FF) == 0
        wide = finite.astype(np.float64)
        return TensorSummary(
            count=tensor.size,
            zeros=int(counts[around_zero].sum()),
            nans=int(np.isnan(tensor).sum()),
            positive_infinities=int(np.isposinf(tensor).sum()),
            negative_infinities=int(np.isneginf(tensor).sum()),
            minimum=float(wide.min()) if wide.size else 0.0,
            maximum=float(wide.max()) if wide.size else 0.0,
            sum=float(wide.sum()),
            sum_squares=float((wide * wide).sum()),
            mantissa_bits=3,
            indexes=pack_array(indexes[~around_zero]),
            counts=pack_array(counts[~around_zero].astype(np.uint64)),
        )

    return summary
