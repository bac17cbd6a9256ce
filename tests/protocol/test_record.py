"""The header of 40 bytes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, UnsupportedVersion
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX
from tensorboard_sidecar.protocol.record import (
    HEADER_SIZE_BYTES,
    Kind,
    Record,
    pack_header,
    pack_record,
    parse_record,
    parse_sequence,
)

RECORD = Record(Kind.SCALARS, 7, -3, 1_700_000_000_000_000_000, b"body")
PAYLOAD = pack_record(RECORD)

records = st.builds(
    Record,
    st.integers(1, 255),
    st.integers(1, SEQUENCE_MAX - 2**32),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40),
    st.just(1),
) | st.builds(
    Record,
    st.just(Kind.GAP),
    st.integers(1, SEQUENCE_MAX - 2**32),
    st.integers(0, 2**53),
    st.integers(0, 2**63 - 1),
    st.binary(max_size=40),
    st.integers(1, 2**32 - 1),
)


def test_the_header_is_little_endian_and_40_bytes() -> None:
    header = pack_header(Kind.GAP, 2, 5, 7, 11, 13)
    assert (
        header.hex(" ", -4)
        == "010c0000 02000000 05000000 00000000 07000000 00000000 0b000000 00000000 0d000000 00000000"
    )
    assert HEADER_SIZE_BYTES == len(header) == 40


@given(records)
def test_a_record_comes_back(record: Record) -> None:
    payload = pack_record(record)
    assert parse_record(payload) == record
    assert parse_record(memoryview(payload)) == record
    assert parse_sequence(payload) == (record.kind, record.sequence, record.next_sequence)


def test_zeros_behind_a_body_are_padding() -> None:
    assert parse_record(PAYLOAD + bytes(100)) == RECORD


def test_flags_and_the_reserved_field_are_ignored() -> None:
    payload = bytearray(PAYLOAD)
    payload[2:4], payload[12:16] = b"\xff\xff", b"\xff\xff\xff\xff"
    assert parse_record(bytes(payload)) == RECORD


def test_a_record_of_an_unknown_kind_is_read() -> None:
    """An old logger journals the records of a new trainer, and skips them in the projection."""
    assert parse_record(pack_record(RECORD._replace(kind=200))).kind == 200


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_with_both_numbers(version: int) -> None:
    with pytest.raises(UnsupportedVersion, match=f"version {version} came, this program reads version 1"):
        parse_record(bytes((version,)) + PAYLOAD[1:])


def test_a_body_larger_than_its_record_is_malformed() -> None:
    with pytest.raises(Malformed, match="a body of 4 bytes in a record of 43"):
        parse_record(PAYLOAD[:-1])


@pytest.mark.parametrize(
    ("kind", "sequence", "span"),
    [
        (Kind.SCALARS, 0, 1),
        (Kind.SCALARS, 1, 0),
        (Kind.SEGMENT, 1, 1),
        (Kind.SCALARS, 1, 2),
        (Kind.RUN_END, 7, 2**32 - 1),
        (200, 7, 2),
        (Kind.GAP, SEQUENCE_MAX, 1),
        (Kind.GAP, 2**64 - 1, 2**32 - 1),
    ],
)
def test_impossible_sequence_numbers_are_malformed(kind: int, sequence: int, span: int) -> None:
    with pytest.raises(Malformed, match=f"sequence {sequence} and span {span}"):
        parse_record(pack_header(kind, span, 0, sequence, 0, 0))


@given(st.binary(max_size=80))
def test_rubbish_is_a_record_or_a_protocol_error(payload: bytes) -> None:
    try:
        record = parse_record(payload)
    except ProtocolError:
        return
    version, kind = struct.unpack_from("<BB", payload)
    assert (version, kind) == (1, record.kind)
    assert len(record.body) <= len(payload) - HEADER_SIZE_BYTES
