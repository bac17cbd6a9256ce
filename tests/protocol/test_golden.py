"""The golden table in both directions, and its bytes cut at every length and with every bit flipped."""

import msgpack
import pytest
from support.records.golden import RECORDS, WIRE

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError
from tensorboard_sidecar.protocol.kinds import kind_of
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES, Kind, pack_record, parse_record
from tensorboard_sidecar.protocol.wire import Data, decode_wire, encode_wire


def test_every_kind_and_wire_message_is_in_the_table() -> None:
    assert [kind_of(golden.message) for golden in RECORDS.values()] == list(Kind)
    assert [name.upper() for name in RECORDS] == [kind.name for kind in Kind]
    assert [golden.data[1] for golden in WIRE.values()] == list(range(1, len(WIRE) + 1))


@pytest.mark.parametrize("name", RECORDS)
def test_a_message_has_the_bytes_it_always_had(name: str) -> None:
    golden = RECORDS[name]
    assert pack_record(golden.record).hex() == golden.payload.hex()


@pytest.mark.parametrize("name", RECORDS)
def test_old_bytes_are_read(name: str) -> None:
    golden = RECORDS[name]
    record = parse_record(golden.payload)
    assert record == golden.record
    assert decode_message(record) == golden.message


@pytest.mark.parametrize("name", RECORDS)
def test_another_msgpack_library_agrees(name: str) -> None:
    """The bodies are plain msgpack: the field names as keys, every number and length in its shortest form."""
    body = RECORDS[name].payload[HEADER_SIZE_BYTES:]
    unpacked = msgpack.unpackb(body)
    later = {  # left out while they are 0, false or empty: these bodies are older than the fields
        "run_start": {"continues", "file_suffix"},
        "run_end": {"plain"},
        "audio": {"single"},
        "embedding": {"first_row", "row_count"},
        "hparams": {"folder", "domains"},
    }.get(name, set())
    assert list(unpacked) == [field for field in RECORDS[name].message.__struct_fields__ if field not in later]
    assert msgpack.packb(unpacked) == body


@pytest.mark.parametrize("name", WIRE)
def test_a_wire_message_has_the_bytes_it_always_had_and_is_read(name: str) -> None:
    golden = WIRE[name]
    assert encode_wire(golden.message).hex() == golden.data.hex()
    assert decode_wire(golden.data) == golden.message
    assert decode_wire(memoryview(golden.data)) == golden.message


@pytest.mark.parametrize("name", RECORDS)
def test_a_payload_cut_anywhere_is_malformed(name: str) -> None:
    payload = RECORDS[name].payload
    for size in range(len(payload)):
        with pytest.raises(Malformed):
            parse_record(payload[:size])


@pytest.mark.parametrize("name", RECORDS)
def test_a_body_cut_anywhere_is_malformed(name: str) -> None:
    record = RECORDS[name].record
    for size in range(len(record.body)):
        with pytest.raises(Malformed):
            decode_message(record._replace(body=record.body[:size]))


@pytest.mark.parametrize("name", RECORDS)
def test_a_flipped_bit_gives_a_message_or_a_protocol_error(name: str) -> None:
    """Nothing else may come out of bytes that no checksum has looked at."""
    refused = 0
    for flipped in flips(RECORDS[name].payload):
        try:
            decode_message(parse_record(flipped))
        except ProtocolError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("name", [name for name, golden in WIRE.items() if not isinstance(golden.message, Data)])
def test_a_wire_message_cut_or_flipped_is_a_message_or_a_protocol_error(name: str) -> None:
    data = WIRE[name].data
    for size in range(len(data)):
        with pytest.raises(ProtocolError):
            decode_wire(data[:size])
    for flipped in flips(data):
        try:
            decode_wire(flipped)
        except ProtocolError:
            continue


def flips(data: bytes) -> list[bytes]:
    """Return the data with each of its bits flipped in turn."""
    whole = int.from_bytes(data)
    return [(whole ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data))]
