"""The template of a scalar's frame: the same bytes as the codec, the record and the frame make."""

import mmap
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.frame import FRAME_OVERHEAD_BYTES, HEAD_SIZE_BYTES, pack_frame
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX, STEP_MAX, TAG_MAX_CHARACTERS
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate

TAGS = st.text(st.characters(codec="utf-8"), max_size=TAG_MAX_CHARACTERS)
STEPS = st.integers(0, STEP_MAX)
TIMES = st.integers(-(2**63), 2**63 - 1)
# Every bit pattern of a float: all NaNs, both zeros, both infinities.
VALUES = st.binary(min_size=8, max_size=8).map(lambda data: struct.unpack("<d", data)[0])


def frame_of(tag: str, sequence: int, step: int, wall_time_ns: int, value: float) -> bytes:
    return pack_frame(pack_record(Record(Kind.SCALARS, sequence, step, wall_time_ns, encode_scalars({tag: value}))))


@given(TAGS, st.integers(1, SEQUENCE_MAX - 1), STEPS, TIMES, VALUES | st.floats())
def test_a_frame_is_that_of_the_codec(tag: str, sequence: int, step: int, wall_time_ns: int, value: float) -> None:
    template = ScalarTemplate(tag)
    expected = frame_of(tag, sequence, step, wall_time_ns, value)
    buffer = bytearray(b"\xaa" * (len(expected) + 20))
    template.write(buffer, 10, sequence, step, wall_time_ns, value)
    assert template.frame_size_bytes == len(expected)
    assert bytes(buffer) == b"\xaa" * 10 + expected + b"\xaa" * 10


# Lengths at which msgpack's head of a text changes, and characters of one to four bytes.
@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, TAG_MAX_CHARACTERS])
@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
def test_tags_of_all_lengths_have_their_frame(length: int, character: str) -> None:
    tag = character * length
    template = ScalarTemplate(tag)
    buffer = bytearray(template.frame_size_bytes)
    template.write(buffer, 0, 7, 100, 5, -0.0)
    assert bytes(buffer) == frame_of(tag, 7, 100, 5, -0.0)


def test_a_template_writes_any_number_of_records() -> None:
    template = ScalarTemplate("loss")
    buffer = bytearray(3 * template.frame_size_bytes)
    for number in range(3):
        template.write(buffer, number * template.frame_size_bytes, number + 1, number, 5, number / 2)
    assert bytes(buffer) == b"".join(frame_of("loss", number + 1, number, 5, number / 2) for number in range(3))


def test_the_head_is_written_last() -> None:
    """A frame whose rest could not be written does not exist."""
    template = ScalarTemplate("loss")
    buffer = bytearray(template.frame_size_bytes - 1)
    with pytest.raises(struct.error):
        template.write(buffer, 0, 1, 1, 1, 1.0)
    assert buffer[:HEAD_SIZE_BYTES] == bytes(HEAD_SIZE_BYTES)


def test_the_size_is_that_of_the_payload_and_the_framing() -> None:
    body = encode_scalars({"a": 0.0})
    assert ScalarTemplate("a").frame_size_bytes == 40 + len(body) + FRAME_OVERHEAD_BYTES


@pytest.mark.parametrize("value", [10**400, "1", None])
def test_what_is_no_float_is_written_nowhere(value: object) -> None:
    buffer = bytearray(200)
    with pytest.raises((struct.error, OverflowError)):
        ScalarTemplate("loss").write(buffer, 0, 1, 1, 1, value)  # type: ignore[arg-type]
    assert not any(buffer)


def test_a_closed_map_takes_nothing() -> None:
    buffer = mmap.mmap(-1, 4096)
    buffer.close()
    with pytest.raises(TypeError):
        ScalarTemplate("loss").write(buffer, 0, 1, 1, 1, 1.0)
