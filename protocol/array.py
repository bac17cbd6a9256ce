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
        *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
        *("float16", "float32", "float64"),
    )
}

# A look-up by dtype: numpy takes microseconds to make ``dtype.name``.
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


class Array(msgspec.Struct, frozen=True):
    """Array in a message: ``dtype`` is a key of :data:`DTYPES`; ``data`` holds exactly ``prod(shape)`` items."""

    dtype: str
    shape: Annotated[tuple[int, ...], msgspec.Meta(max_length=ARRAY_DIMENSIONS_MAX)]
    data: bytes

    def numpy(self) -> npt.NDArray[Any]:
        """Return a read-only numpy array over ``data``, without a copy."""
        return np.frombuffer(self.data, DTYPES[self.dtype]).reshape(self.shape)


def pack_array(values: npt.ArrayLike) -> Array:
    r"""Return the values as an :class:`Array`.

    Raises Malformed for a dtype outside :data:`DTYPES` (objects, strings, complex numbers).

    >>> import numpy as np
    >>> pack_array(np.array([1, 2], np.int16))
    Array(dtype='int16', shape=(2,), data=b'\x01\x00\x02\x00')
    """
    array = np.asarray(values)
    dtype = array.dtype.newbyteorder("<")
    name = _NAMES.get(dtype)
    if name is None:
        raise Malformed(f"arrays of {array.dtype} cannot be sent; expected one of {', '.join(DTYPES)}")
    return Array(name, array.shape, np.ascontiguousarray(array, dtype).tobytes())


def check_array(name: str, array: Array, *, dtypes: tuple[str, ...], dimensions: int | None = None) -> None:
    """Check the dtype, the number of dimensions (None: up to the limit), and the number of bytes against the shape.

    Raises Malformed with ``name``, the expected and the found value.
    """
    if array.dtype not in dtypes or array.dtype not in DTYPES:
        raise Malformed(f"{name}: dtype {array.dtype!r:.40} came; expected one of {', '.join(dtypes)}")
    if len(array.shape) > ARRAY_DIMENSIONS_MAX or dimensions not in (None, len(array.shape)):
        raise Malformed(f"{name}: {len(array.shape)} dimensions came; expected {dimensions or ARRAY_DIMENSIONS_MAX}")
    if min(array.shape, default=0) < 0 or math.prod(array.shape) * DTYPES[array.dtype].itemsize != len(array.data):
        raise Malformed(f"{name}: {len(array.data):,} bytes do not fill {array.dtype} of shape {array.shape}")
