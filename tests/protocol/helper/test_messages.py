"""The messages of a helper and its clients: whole ones pass, and rubbish is Malformed."""

import struct
from contextlib import suppress
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.golden import FINDING

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.helper.messages import (
    MESSAGE_SIZE_MAX_BYTES,
    Findings,
    FolderReport,
    HelperMessage,
    MessageBuffer,
    Report,
    Shown,
    StatusRequest,
    Sync,
    Trouble,
    Watch,
    pack_message,
)

STREAM = bytes(range(16))
MESSAGES: list[HelperMessage] = [
    Watch(b"/runs/first"),
    Watch(b"/runs/first", STREAM),
    Sync(STREAM, 7),
    Shown(STREAM, 7),
    Trouble("the disk is full"),
    StatusRequest(),
    Report(12, 2**20, [FolderReport(b"/runs/\xff", 2, 0.5, "why")]),
    Findings([FINDING]),
]
STREAM_OF_ALL = b"".join(map(pack_message, MESSAGES))


def test_every_message_comes_back() -> None:
    assert list(MessageBuffer().add(STREAM_OF_ALL)) == MESSAGES


@given(st.lists(st.integers(0, len(STREAM_OF_ALL)), max_size=8))
def test_messages_come_back_from_bytes_cut_anywhere(cuts: list[int]) -> None:
    buffer, found = MessageBuffer(), []
    edges = [0, *sorted(cuts), len(STREAM_OF_ALL)]
    for start, end in pairwise(edges):
        found += buffer.add(STREAM_OF_ALL[start:end])
    assert found == MESSAGES


def test_cut_at_any_byte_the_whole_messages_come_back_and_nothing_is_raised() -> None:
    for end in range(len(STREAM_OF_ALL)):
        found = list(MessageBuffer().add(STREAM_OF_ALL[:end]))
        assert found == MESSAGES[: len(found)]


@given(st.integers(0, len(STREAM_OF_ALL) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_messages_or_malformed(place: int, change: int) -> None:
    data = bytearray(STREAM_OF_ALL)
    data[place] ^= change
    with suppress(Malformed):
        list(MessageBuffer().add(bytes(data)))


@given(st.binary(max_size=200))
def test_rubbish_gives_messages_or_malformed(data: bytes) -> None:
    for rubbish in (data, struct.pack("<I", len(data)) + data):
        with suppress(Malformed):
            list(MessageBuffer().add(rubbish))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        b"\x81\xa4type\x63",  # no such message
        b"\x82\xa4type\x04\xa6reason\xa3\xff\xff\xff",  # no UTF-8
        b"\x82\xa4type\x01\xa6folder\xc4\x00",  # an empty path
        msgspec.msgpack.encode({"type": 2, "stream": b"short", "sequence": 1}),
        msgspec.msgpack.encode({"type": 2, "stream": STREAM, "sequence": -1}),
        msgspec.msgpack.encode({"type": 1, "folder": b"/runs", "stream": b"short"}),
        msgspec.msgpack.encode({"type": 7, "findings": [{"rule": "none"}]}),
        msgspec.msgpack.encode({"type": 2, "stream": STREAM, "sequence": 2**64 - 1}),
        b"\x82\xa4type\x05\xa1x" + b"\x91" * 500_000 + b"\xc0",  # arrays in arrays
    ],
)
def test_a_body_that_is_no_message_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed, match="no message of a helper or its client"):
        list(MessageBuffer().add(struct.pack("<I", len(body)) + body))


def test_a_message_that_is_too_long_is_malformed_at_its_length() -> None:
    buffer = MessageBuffer()
    with pytest.raises(Malformed, match="a message of 1,048,577 bytes"):
        list(buffer.add(struct.pack("<I", MESSAGE_SIZE_MAX_BYTES + 1)))


def test_an_unknown_field_is_ignored() -> None:
    """Messages may grow."""
    body = msgspec.msgpack.encode({"type": 4, "reason": "why", "since": 12})
    assert list(MessageBuffer().add(struct.pack("<I", len(body)) + body)) == [Trouble("why")]
