"""Frames: their bytes, and reading on behind damage."""

import struct
import time
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.record_writer import RecordWriter

from tensorboard_sidecar.protocol.frame import (
    FRAME_OVERHEAD_BYTES,
    HEAD_SIZE_BYTES,
    Damage,
    End,
    Frame,
    mask_crc,
    masked_crc,
    pack_frame,
    pack_head,
    read_frame,
    read_frames,
    valid_length,
)

PAYLOADS = [b"first", b"", bytes(40), b"the last one"]
WHOLE = b"".join(map(pack_frame, PAYLOADS))


def read_all(data: bytes) -> tuple[list[bytes], list[Damage], End]:
    """Return the payloads, the damage and the end of a buffer."""
    *items, end = read_frames(memoryview(data))
    assert isinstance(end, End)
    payloads = [bytes(item.payload) for item in items if isinstance(item, Frame)]
    return payloads, [item for item in items if isinstance(item, Damage)], end


def test_checksums_are_those_of_rfc_3720_and_tfrecord() -> None:
    """RFC 3720, B.4: the CRC-32C of 32 zero bytes is aa 36 91 8a. TFRecord rotates by 15 bits and adds a constant."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert mask_crc(0) == 0xA282EAD8
    assert mask_crc(1) == (1 << 17) + 0xA282EAD8
    assert masked_crc(bytes(32)) == mask_crc(0x8A9136AA)


def test_a_frame_is_what_tensorboard_writers_write(tmp_path: Path) -> None:
    path = tmp_path / "events"
    writer = RecordWriter(str(path))
    for payload in PAYLOADS:
        writer.write(payload)
    writer.close()
    assert path.read_bytes() == WHOLE


def test_a_frame_is_head_payload_and_tail() -> None:
    payload = b"payload"
    assert pack_frame(payload) == pack_head(len(payload)) + payload + struct.pack("<I", masked_crc(payload))
    assert len(pack_head(7)) == HEAD_SIZE_BYTES
    assert len(pack_frame(payload)) == len(payload) + FRAME_OVERHEAD_BYTES
    assert valid_length(pack_head(7), 0) == 7
    assert valid_length(struct.pack("<QI", 7, 0), 0) is None


def test_frames_come_back_with_their_places() -> None:
    *frames, end = read_frames(memoryview(WHOLE))
    assert [bytes(frame.payload) for frame in frames if isinstance(frame, Frame)] == PAYLOADS
    assert [WHOLE[item.start : item.end] for item in frames if isinstance(item, Frame)] == [*map(pack_frame, PAYLOADS)]
    assert end == End(len(WHOLE))


def test_a_buffer_cut_anywhere_gives_the_frames_before_the_cut() -> None:
    """``needed`` tells a reader how many bytes the next chunk must have."""
    ends = [len(b"".join(map(pack_frame, PAYLOADS[:n]))) for n in range(len(PAYLOADS) + 1)]
    for size in range(len(WHOLE)):
        payloads, damages, end = read_all(WHOLE[:size])
        whole = sum(e <= size for e in ends[1:])
        assert payloads == PAYLOADS[:whole]
        assert damages == []
        assert end.start == ends[whole]
        if size - end.start >= HEAD_SIZE_BYTES:
            assert end.start + end.needed == ends[whole + 1]


def test_a_flipped_bit_costs_the_frame_it_is_in() -> None:
    ends = [0]
    for payload in PAYLOADS:
        ends.append(ends[-1] + len(pack_frame(payload)))
    whole = int.from_bytes(WHOLE, "little")
    for bit in range(8 * len(WHOLE)):
        hit = next(n for n in range(len(PAYLOADS)) if bit // 8 < ends[n + 1])
        payloads, damages, _ = read_all((whole ^ 1 << bit).to_bytes(len(WHOLE), "little"))
        assert payloads == PAYLOADS[:hit] + PAYLOADS[hit + 1 :]
        assert damages[0].start == ends[hit]
        assert all(ends[hit] <= damage.start < ends[hit + 1] for damage in damages)


def test_zeros_to_the_end_are_the_end() -> None:
    for size in (1, 11, 12, 13, 4096):
        payloads, damages, end = read_all(WHOLE + bytes(size))
        assert (payloads, damages, end) == (PAYLOADS, [], End(len(WHOLE)))


def test_zeros_before_a_frame_are_damage() -> None:
    """A page that a disk lost must not hide the frames behind the page."""
    for size in (12, 13, 100, 4096):
        payloads, damages, end = read_all(WHOLE + bytes(size) + WHOLE)
        assert payloads == PAYLOADS * 2
        assert damages == [Damage(len(WHOLE), len(WHOLE) + size, "zeros between frames")]
        assert end == End(2 * len(WHOLE) + size)


def test_a_payload_above_the_limit_is_no_frame() -> None:
    buffer = memoryview(pack_frame(bytes(range(1, 101))) + pack_frame(b"next"))
    assert isinstance(read_frame(buffer, 0, payload_size_max_bytes=100), Frame)
    damage = read_frame(buffer, 0, payload_size_max_bytes=99)
    assert damage == Damage(0, 100 + FRAME_OVERHEAD_BYTES, "payload of 100 bytes is too large")


@pytest.mark.parametrize("length", [2**26 + 1, 2**32, 2**63, 2**64 - 1])
def test_a_huge_length_with_a_right_checksum_is_damage(length: int) -> None:
    payloads, damages, _ = read_all(pack_head(length) + b"rubbish" + pack_frame(b"next"))
    assert payloads == [b"next"]
    assert damages == [Damage(0, 19, f"payload of {length:,} bytes is too large")]


def test_the_search_for_a_head_can_be_saved() -> None:
    data = memoryview(b"rubbish at the start" + WHOLE)
    found, saved = read_frame(data, 0), read_frame(data, 0, resynchronise=False)
    assert isinstance(found, Damage)
    assert isinstance(saved, Damage)
    assert found.end == 20
    assert saved.end > len(data) - HEAD_SIZE_BYTES


@given(
    st.lists(st.binary(max_size=30), max_size=4), st.binary(max_size=60), st.lists(st.binary(max_size=30), max_size=4)
)
def test_reading_goes_on_behind_rubbish(before: list[bytes], rubbish: bytes, after: list[bytes]) -> None:
    data = b"".join(map(pack_frame, before)) + rubbish + b"".join(map(pack_frame, after))
    payloads, _, end = read_all(data)
    assert payloads[: len(before)] == before
    assert payloads[len(payloads) - len(after) :] == after
    assert end.start <= len(data)


# Zeros and the bytes of real heads, which can mislead a search for heads.
PIECES = st.sampled_from([bytes(n) for n in (1, 2, 3, 4, 5, 8, 11, 12, 13, 40)] + [pack_head(n) for n in (0, 3, 2**40)])


@given(st.lists(PIECES | st.binary(max_size=12), max_size=12).map(b"".join))
def test_the_search_finds_the_first_valid_head(data: bytes) -> None:
    """The search looks only where zeros are; a search of every byte must find the same."""
    item = read_frame(memoryview(data), 0)
    places = range(1, len(data) - HEAD_SIZE_BYTES + 1)
    first = next(
        (at for at in places if (valid_length(data, at) or 0) <= 2**26 and valid_length(data, at) is not None), None
    )
    match item:
        case Damage(0, end, "bad head checksum" | "zeros between frames") if first is not None:
            assert end == first
        case Damage(0, end, "bad head checksum"):
            assert end == max(1, len(data) - HEAD_SIZE_BYTES + 1)
        case End(0, 0) if len(data) >= HEAD_SIZE_BYTES:
            assert first is None


@given(st.binary(max_size=400))
def test_rubbish_ends(data: bytes) -> None:
    items = list(read_frames(memoryview(data)))
    assert [type(item) for item in items].count(End) == 1
    assert [item.start for item in items] == sorted({item.start for item in items})


def test_megabytes_of_zeros_are_searched_quickly() -> None:
    data = memoryview(b"x" + bytes(32 * 2**20) + pack_frame(b"behind"))
    begun = time.process_time()
    item = read_frame(data, 0)
    assert isinstance(item, Damage)
    assert item.end == 1 + 32 * 2**20
    assert time.process_time() - begun < 5
