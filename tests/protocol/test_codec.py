"""Bodies: round trips, ignored fields, refused values, and the memory that a hostile body can cost."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.golden import RECORDS
from support.records.strategies import messages, plain

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import decode_message, encode_body, encode_scalars
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, TooLarge
from tensorboard_sidecar.protocol.kinds import check_message, kind_of
from tensorboard_sidecar.protocol.limits import EMBEDDING_ROWS_MAX, STEP_MAX
from tensorboard_sidecar.protocol.messages import Audio, Embedding, HParams, Message, RunStart, Scalars, Text
from tensorboard_sidecar.protocol.record import Kind, Record

MEBIBYTE = 2**20
KNOWN = st.sampled_from(sorted(Kind))


def record_of(kind: int, body: bytes, step: int = 0) -> Record:
    return Record(kind, 1, step, 0, body)


def list_of(length: int) -> bytes:
    """Return the head of a list that claims ``length`` items."""
    return b"\xdd" + length.to_bytes(4)


def map_of(length: int) -> bytes:
    return b"\xdf" + length.to_bytes(4)


def field(name: str, value: bytes) -> bytes:
    """Return a map with one field, from its packed value."""
    return b"\x81" + bytes(msgpack.packb(name)) + value


@given(messages)
def test_a_message_comes_back(message: Message) -> None:
    check_message(message)
    assert decode_message(record_of(kind_of(message), encode_body(message))) == message


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.floats(allow_nan=False)))
def test_scalars_have_one_encoding(values: dict[str, float]) -> None:
    assert encode_scalars(values) == encode_body(Scalars(values))


def test_a_foreign_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a PosixPath came; expected numbers, texts"):
        encode_body(Text("t", tmp_path))  # type: ignore[arg-type]
    with pytest.raises((TypeError, ValueError)):
        encode_body(Scalars({"a": np.longdouble(1)}))


def test_numbers_of_numpy_are_numbers() -> None:
    values = {"a": np.float32(0.5), "b": np.int64(2), "c": 3.0}
    assert encode_body(Scalars(values)) == encode_body(Scalars({"a": 0.5, "b": 2, "c": 3.0}))


def test_an_unknown_kind_is_no_message() -> None:
    """The caller counts such records; nothing decodes their bodies."""
    assert decode_message(record_of(200, b"\xc1 rubbish")) is None


def test_fields_of_later_versions_are_ignored() -> None:
    body = msgpack.packb({"values": {"loss": 1.0}, "unit": {"new": [1, None, b"x"]}})
    assert decode_message(record_of(Kind.SCALARS, body)) == Scalars({"loss": 1.0})


def test_missing_fields_get_their_defaults_or_are_named() -> None:
    message = decode_message(record_of(Kind.RUN_START, b"\x80"))
    assert message is not None
    assert msgspec.to_builtins(message) == {"first_step": 0, "config": {}, "continues": False, "file_suffix": ""}
    with pytest.raises(Malformed, match="Scalars: Object missing required field `values`"):
        decode_message(record_of(Kind.SCALARS, b"\x80"))


def test_whole_numbers_are_taken_for_floats() -> None:
    assert decode_message(record_of(Kind.SCALARS, field("values", b"\x81\xa1a\x05"))) == Scalars({"a": 5.0})


@pytest.mark.parametrize(
    "value",
    [
        b"\x81\xa1a\xc3",
        b"\x81\xa1a\xa15",
        b"\x81\xa1a\xc0",
        b"\x81\xc4\x01a\x05",
        b"\x81\x01\x05",
        b"\x90",
        b"\xd4\x01\x00",
    ],
    ids=["bool", "text", "nil", "binary key", "number as key", "list", "ext"],
)
def test_wrong_types_are_malformed(value: bytes) -> None:
    with pytest.raises(Malformed, match="Scalars: Expected"):
        decode_message(record_of(Kind.SCALARS, field("values", value)))


def test_text_where_bytes_belong_is_malformed() -> None:
    body = RECORDS["images"].record.body.replace(b"\xc4\x03\xff\x00\x01", b"\xa4AAAA")
    with pytest.raises(Malformed, match=r"Expected `bytes`, got `str` - at `\$.images.data`"):
        decode_message(record_of(Kind.IMAGES, body))


def test_text_that_is_no_utf_8_is_malformed() -> None:
    with pytest.raises(Malformed):
        decode_message(record_of(Kind.TEXT, b"\x82\xa3tag\xa1t\xa4text\xa2\xc3\x28"))


def test_bytes_behind_the_body_are_malformed() -> None:
    """Padding lies behind the body, never within the body size."""
    with pytest.raises(Malformed, match="trailing"):
        decode_message(record_of(Kind.RUN_END, RECORDS["run_end"].record.body + b"\x00"))


@pytest.mark.parametrize("step", [-STEP_MAX - 1, -(2**63), STEP_MAX + 1, 2**63 - 1])
def test_a_step_that_tensorboard_cannot_show_is_malformed(step: int) -> None:
    with pytest.raises(Malformed, match=f"step {step}; expected -9,007,199,254,740,992 to 9,007,199,254,740,992"):
        decode_message(RECORDS["scalars"].record._replace(step=step))


@pytest.mark.parametrize("step", [-1, -STEP_MAX])
def test_a_negative_step_is_a_step(step: int) -> None:
    """Programs of torch use -1 for "before training"."""
    assert decode_message(RECORDS["scalars"].record._replace(step=step)) == RECORDS["scalars"].message


@given(KNOWN, st.binary(max_size=200))
def test_rubbish_is_a_message_or_a_protocol_error(kind: int, body: bytes) -> None:
    decode_or_refuse(kind, body)


@given(KNOWN, plain)
def test_any_msgpack_is_a_message_or_a_protocol_error(kind: int, value: Any) -> None:
    decode_or_refuse(kind, msgpack.packb(value))


@given(st.sampled_from(sorted(RECORDS)), st.data())
def test_any_value_in_any_field_is_a_message_or_a_protocol_error(name: str, data: st.DataObject) -> None:
    record = RECORDS[name].record
    fields = msgpack.unpackb(record.body)
    place, key = data.draw(st.sampled_from(list(places(fields))))
    place[key] = data.draw(plain)
    decode_or_refuse(record.kind, msgpack.packb(fields))


def decode_or_refuse(kind: int, body: bytes) -> None:
    """Decode; a message that is not refused passes the checks again after a round trip."""
    try:
        message = decode_message(record_of(kind, body))
    except ProtocolError:
        return
    assert message is not None
    again = decode_message(record_of(kind, encode_body(message)))
    assert again is not None
    assert encode_body(again) == encode_body(message)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in nested lists and maps."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


BOMBS: dict[str, tuple[Kind, Callable[[], bytes]]] = {
    "a list of four billion": (Kind.EMBEDDING, lambda: field("rows", list_of(2**32 - 1))),
    "a map of four billion": (Kind.SCALARS, lambda: field("values", map_of(2**32 - 1))),
    "a text of four gigabytes": (Kind.TEXT, lambda: field("text", b"\xdb\xff\xff\xff\xff")),
    "bytes of four gigabytes": (Kind.SEGMENT, lambda: field("stream", b"\xc6\xff\xff\xff\xff")),
    "an ext of four gigabytes": (Kind.TEXT, lambda: field("text", b"\xc9\xff\xff\xff\xff\x01")),
    "lists in lists": (Kind.EMBEDDING, lambda: field("rows", b"\x91" * MEBIBYTE)),
    "long lists in long lists": (Kind.EMBEDDING, lambda: field("rows", list_of(100_000) * 100_000)),
    "maps in maps": (Kind.LAYOUT, lambda: field("categories", b"\x81\xa1a" * 300_000)),
    "lists in lists where nobody reads": (Kind.SCALARS, lambda: field("unknown", b"\x91" * MEBIBYTE)),
    "long lists in long lists where nobody reads": (Kind.SCALARS, lambda: field("unknown", list_of(100_000) * 100_000)),
    "a million empty rows": (Kind.EMBEDDING, lambda: field("rows", list_of(MEBIBYTE) + b"\x90" * MEBIBYTE)),
    "a million cells": (Kind.EMBEDDING, lambda: field("rows", list_of(1) + list_of(MEBIBYTE) + b"\xa0" * MEBIBYTE)),
    "a million tags": (Kind.SCALARS, lambda: field("values", map_of(MEBIBYTE) + b"\xa1a\x00" * MEBIBYTE)),
    "a million inputs": (
        Kind.GRAPH,
        lambda: field("nodes", b"\x91" + field("inputs", list_of(MEBIBYTE) + b"\xa0" * MEBIBYTE)),
    ),
    "a shape of a million sides": (
        Kind.MATRIX,
        lambda: field("values", field("shape", list_of(MEBIBYTE) + b"\x01" * MEBIBYTE)),
    ),
    "a million values of a hyperparameter": (
        Kind.HPARAMS,
        lambda: field("domains", b"\x81\xa2lr" + list_of(MEBIBYTE) + b"\x01" * MEBIBYTE),
    ),
    "a million curves": (Kind.OVERLAY, lambda: field("values", map_of(MEBIBYTE) + b"\xa1a\x00" * MEBIBYTE)),
    "a million labels of boxes": (Kind.BOXES, lambda: field("labels", list_of(MEBIBYTE) + b"\xa0" * MEBIBYTE)),
    "an event of four gigabytes": (Kind.EVENT, lambda: field("event", b"\xc6\xff\xff\xff\xff")),
    "a million kinds": (Kind.GAP, lambda: field("kinds", map_of(MEBIBYTE) + b"\xa1a\x01" * MEBIBYTE)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_malformed_and_costs_next_to_nothing(name: str) -> None:
    """Lengths and types are checked during decoding: allocations stay within the bytes read and the limits."""
    kind, make = BOMBS[name]
    body = make()
    tracemalloc.start()
    try:
        with pytest.raises(Malformed) as refused:
            decode_message(record_of(kind, body))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MEBIBYTE
    assert len(str(refused.value)) < 400


NODE_OF_EMPTY_SHAPES = msgpack.packb({"name": "n", "operation": "o", "output_shapes": [[]] * 256})
CHARTS_OF_SHORT_TAGS = msgpack.packb({str(n): {"kind": "multiline", "tags": ["ab"] * 1000} for n in range(100)})
WHOLES: dict[str, tuple[Kind, Callable[[], bytes]]] = {
    "graph": (Kind.GRAPH, lambda: field("nodes", list_of(50_000) + NODE_OF_EMPTY_SHAPES * 50_000)),
    "layout": (
        Kind.LAYOUT,
        lambda: field("categories", map_of(100) + b"".join(b"\xa2%02d" % n + CHARTS_OF_SHORT_TAGS for n in range(100))),
    ),
}


@pytest.mark.parametrize("name", WHOLES)
def test_a_whole_of_many_pieces_is_refused_at_the_first_that_is_too_many(name: str) -> None:
    """Each piece is within its limits; all of them together would take a gigabyte."""
    kind, make = WHOLES[name]
    body = make()
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match=f"{name}: parts"):
            decode_message(record_of(kind, body))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 * MEBIBYTE


def test_a_part_of_an_embedding_names_its_place_and_a_whole_embedding_does_not() -> None:
    whole = Embedding("e", pack_array(np.zeros((2, 1), np.float32)))
    part = Embedding("e", whole.vectors, first_row=3, row_count=5)
    first = Embedding("e", whole.vectors, row_count=5)
    end = b"\xa9first_row\x03\xa9row_count\x05"
    assert encode_body(part) == b"\x87" + encode_body(whole)[1:] + end
    assert encode_body(first) == b"\x86" + encode_body(whole)[1:] + b"\xa9row_count\x05"
    for message in (whole, part, first):
        assert decode_message(record_of(Kind.EMBEDDING, encode_body(message))) == message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (RunStart(7), RunStart(7, continues=True, file_suffix=".x")),
        (Audio("a", [], 8_000), Audio("a", [], 8_000, single=True)),
        (HParams({}, {}), HParams({}, {}, "row", {"lr": [1]})),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_field_of_a_later_version_is_left_out_while_it_says_nothing(old: Message, new: Message) -> None:
    """The bodies of earlier versions stay byte for byte."""
    later = [name for name in new.__struct_fields__ if getattr(old, name) != getattr(new, name)]
    unpacked = msgpack.unpackb(encode_body(old))
    assert not set(later) & set(unpacked)
    assert list(msgpack.unpackb(encode_body(new))) == [*unpacked, *later]


def test_the_largest_metadata_still_fits() -> None:
    """Bounded memory must not refuse a message within the limits: 100,000 rows are read in full."""
    rows = list_of(EMBEDDING_ROWS_MAX) + b"\x91\xa1x" * EMBEDDING_ROWS_MAX
    body = b"\x84\xa3tag\xa1t\xa7vectors\x83\xa5dtype\xa7float32\xa5shape\x92\xce" + EMBEDDING_ROWS_MAX.to_bytes(4)
    body += b"\x01\xa4data\xc6" + (4 * EMBEDDING_ROWS_MAX).to_bytes(4) + bytes(4 * EMBEDDING_ROWS_MAX)
    body += b"\xa7columns\x91\xa1c\xa4rows" + rows
    message = decode_message(record_of(Kind.EMBEDDING, body))
    assert message is not None
    with pytest.raises(TooLarge, match="text t in characters: 1,000,001 is above the limit of 1,000,000"):
        decode_message(record_of(Kind.TEXT, msgpack.packb({"tag": "t", "text": "x" * 1_000_001})))
