"""Arrays on the wire: a dtype from a short list, a shape, and raw little-endian bytes in C order."""

import math
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import ARRAY_DIMENSIONS_MAX

DTYPES: Final = {
    name: np.dtype(name).newbyteorder("<")
    for name in (
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
    )
}

_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}  # an array's own name takes numpy microseconds


class Array(msgspec.Struct, frozen=True):
    """``dtype`` is a key of :data:`DTYPES`; ``data`` holds exactly ``prod(shape)`` items."""

    dtype: str
    shape: Annotated[tuple[int, ...], msgspec.Meta(max_length=ARRAY_DIMENSIONS_MAX)]
    data: bytes

    def numpy(self) -> npt.NDArray[Any]:
        """Return a read-only array over the same bytes."""
        return np.frombuffer(self.data, DTYPES[self.dtype]).reshape(self.shape)


def pack_array(values: npt.ArrayLike) -> Array:
    """Pack an array; raise Malformed for a dtype that is not on the list (objects, strings, complex numbers)."""
    array = np.asarray(values)
    dtype = array.dtype.newbyteorder("<")
    name = _NAMES.get(dtype)
    if name is None:
        raise Malformed(f"arrays of {array.dtype} cannot be sent; expected one of {', '.join(DTYPES)}")
    return Array(name, array.shape, np.ascontiguousarray(array, dtype).tobytes())


def check_array(what: str, array: Array, *, dtypes: tuple[str, ...], dimensions: int | None = None) -> None:
    """Check dtype, dimensions and that the bytes are as many as the shape says.

    Raises Malformed, naming ``what``, what was expected and what came.
    """
    if array.dtype not in dtypes or array.dtype not in DTYPES:
        raise Malformed(f"{what}: dtype {array.dtype!r:.40} came; expected one of {', '.join(dtypes)}")
    if len(array.shape) > ARRAY_DIMENSIONS_MAX or dimensions not in (None, len(array.shape)):
        raise Malformed(f"{what}: {len(array.shape)} dimensions came; expected {dimensions or ARRAY_DIMENSIONS_MAX}")
    if min(array.shape, default=0) < 0 or math.prod(array.shape) * DTYPES[array.dtype].itemsize != len(array.data):
        raise Malformed(f"{what}: {len(array.data):,} bytes do not fill {array.dtype} of shape {array.shape}")
