"""Arrays: dtypes that can be packed, and arrays that are refused before any use of their bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tensorboard_sidecar.protocol.array import DTYPES, Array, check_array, pack_array
from tensorboard_sidecar.protocol.errors import Malformed

ANY = tuple(DTYPES)


@given(
    st.sampled_from(sorted(DTYPES)).flatmap(
        lambda name: st_numpy.arrays(np.dtype(name), st_numpy.array_shapes(min_side=0))
    )
)
def test_an_array_comes_back(values: np.ndarray) -> None:
    packed = pack_array(values)
    check_array("values", packed, dtypes=ANY)
    assert packed.numpy().dtype == values.dtype
    np.testing.assert_array_equal(packed.numpy(), values)


def test_bytes_are_little_endian_in_c_order_whatever_the_memory() -> None:
    values = np.array([[1, 2], [3, 4]], ">i2")
    expected = bytes.fromhex("0100 0200 0300 0400")
    assert pack_array(values) == pack_array(np.asfortranarray(values)) == Array("int16", (2, 2), expected)
    assert pack_array(values.T[::-1]).data == bytes.fromhex("0200 0400 0100 0300")


def test_an_unpacked_array_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        pack_array([1.0]).numpy()[0] = 2.0


@pytest.mark.parametrize("values", [["text"], [1j], [None], [True], np.array(["2020-01-01"], "datetime64[D]")])
def test_only_listed_dtypes_are_packed(values: list[object]) -> None:
    with pytest.raises(Malformed, match="expected one of uint8"):
        pack_array(values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "problem"),
    [
        (Array("object", (1,), b"12345678"), "dtype 'object' came"),
        (Array("float64", (1,), b"12345678"), "dtype 'float64' came; expected one of uint8, int16"),
        (Array("uint8", (2,), b"1"), "1 bytes do not fill uint8 of shape"),
        (Array("uint8", (0,), b"1"), "1 bytes do not fill"),
        (Array("int16", (2**62, 2**62), b""), "0 bytes do not fill"),
        (Array("uint8", (-1, -1), b"1"), "1 bytes do not fill"),
        (Array("uint8", (1,) * 9, b"1"), "9 dimensions came; expected 8"),
    ],
)
def test_an_array_that_lies_is_malformed(array: Array, problem: str) -> None:
    with pytest.raises(Malformed, match=f"mine: {problem}"):
        check_array("mine", array, dtypes=("uint8", "int16"))


def test_a_wrong_number_of_dimensions_is_malformed() -> None:
    with pytest.raises(Malformed, match="1 dimensions came; expected 2"):
        check_array("mine", Array("uint8", (1,), b"1"), dtypes=("uint8",), dimensions=2)
