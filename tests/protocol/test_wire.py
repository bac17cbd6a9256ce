"""Messages between trainer and logger."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.records.golden import FINDING, WIRE

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, TooLarge, UnsupportedVersion
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import (
    CONTROL_MESSAGE_SIZE_MAX_BYTES,
    EVIDENCE_MAX,
    EVIDENCE_NAME_MAX_CHARACTERS,
    FINDING_TEXT_MAX_CHARACTERS,
    FINDINGS_MESSAGE_MAX,
    FINDINGS_SIZE_MAX_BYTES,
    RECORD_SIZE_MAX_BYTES,
    SEQUENCE_MAX,
    WIRE_MESSAGE_SIZE_MAX_BYTES,
)
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import (
    Ack,
    Bye,
    Data,
    Findings,
    Hello,
    Nak,
    Reject,
    Welcome,
    WireMessage,
    decode_wire,
    encode_wire,
    findings_that_fit,
    is_findings,
)

sequences = st.integers(0, SEQUENCE_MAX)
sizes = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
steps = st.integers(-(2**53), 2**53)
numbers = st.floats(allow_nan=False)
findings = st.builds(
    Finding,
    texts,
    st.sampled_from(["info", "warn", "error"]),
    texts,
    st.sampled_from(["open", "cleared"]),
    steps,
    steps,
    steps,
    numbers,
    st.dictionaries(texts, numbers, max_size=EVIDENCE_MAX),
    texts,
)
wire_messages: st.SearchStrategy[WireMessage] = st.one_of(
    st.builds(Hello, st.binary(max_size=16), texts, st.integers(-1, 9), st.integers(-1, 9), sequences, st.booleans()),
    st.builds(Findings, st.lists(findings, max_size=3)),
    st.builds(Welcome, sequences, sizes),
    st.builds(Reject, texts, st.booleans()),
    st.builds(Data, st.binary(max_size=50).map(memoryview)),
    st.builds(Ack, sequences, sizes),
    st.builds(Nak, sequences),
    st.just(Bye()),
)


@given(wire_messages)
def test_a_message_comes_back(message: WireMessage) -> None:
    assert decode_wire(encode_wire(message)) == message


def test_data_are_not_copied() -> None:
    message = memoryview(encode_wire(Data(memoryview(b"frames"))))
    decoded = decode_wire(message)
    assert isinstance(decoded, Data)
    assert decoded.frames.obj is message.obj


def test_fields_of_later_versions_are_ignored() -> None:
    assert decode_wire(b"\x01\x06\x82\xadnext_sequence\x05\xa3new\x90") == Nak(5)
    assert decode_wire(b"\x01\x07\x81\xa3new\x90") == Bye()


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_whatever_follows(version: int) -> None:
    with pytest.raises(UnsupportedVersion, match=f"wire message: version {version} came"):
        decode_wire(bytes((version, 99)) + b"\xc1")


@pytest.mark.parametrize("number", [0, 9, 255])
def test_an_unknown_type_is_malformed(number: int) -> None:
    with pytest.raises(Malformed, match=f"unknown type {number}"):
        decode_wire(bytes((1, number)) + b"\x80")


@pytest.mark.parametrize("data", [b"", b"\x01"])
def test_a_message_without_a_head_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="its head alone has 2"):
        decode_wire(data)


@pytest.mark.parametrize("number", [b"\xff", b"\xcf\x80\0\0\0\0\0\0\0", b"\xcb\x40\x00\0\0\0\0\0\0", b"\xc0"])
def test_numbers_that_are_no_sequence_are_malformed(number: bytes) -> None:
    """Negative, above the limit, a float, nil."""
    with pytest.raises(Malformed, match="Nak: Expected `int`"):
        decode_wire(b"\x01\x06\x81\xadnext_sequence" + number)


def test_only_data_may_be_large() -> None:
    """A logger decodes a HELLO of an unknown peer; such a peer must not make the logger unpack megabytes."""
    largest = Reject("x" * (CONTROL_MESSAGE_SIZE_MAX_BYTES - 20), retry=True)
    assert len(encode_wire(largest)) == CONTROL_MESSAGE_SIZE_MAX_BYTES
    assert decode_wire(encode_wire(largest)) == largest
    with pytest.raises(TooLarge, match="Reject in bytes: 65,537"):
        decode_wire(encode_wire(Reject(largest.reason + "x", retry=True)))
    assert decode_wire(encode_wire(Data(memoryview(bytes(10**6))))) == Data(memoryview(bytes(10**6)))


def test_the_largest_record_fits_one_message() -> None:
    assert len(encode_wire(Data(memoryview(b"")))) + RECORD_SIZE_MAX_BYTES + 16 <= WIRE_MESSAGE_SIZE_MAX_BYTES


def test_a_hello_names_its_stream() -> None:
    stream = Stream("team/demo", 1, 2, bytes(range(16)))
    hello = WIRE["hello"].message
    assert isinstance(hello, Hello)
    assert hello.identity() == stream


@pytest.mark.parametrize(
    "hello",
    [
        Hello(b"short", "demo", 0, 0, 1),
        Hello(bytes(16), "../demo", 0, 0, 1),
        Hello(bytes(16), "demo", -1, 0, 1),
        Hello(bytes(16), "demo", 0, 2**31, 1),
        Hello(bytes(16), "demo", 0, 0, 0),
    ],
)
def test_a_hello_that_names_no_stream_is_malformed(hello: Hello) -> None:
    with pytest.raises(Malformed):
        hello.identity()


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"\x01" + rest))
def test_rubbish_is_a_message_or_a_protocol_error(data: bytes) -> None:
    try:
        message = decode_wire(data)
    except ProtocolError:
        return
    assert decode_wire(encode_wire(message)) == message


def test_a_hello_that_asks_for_no_findings_has_the_bytes_of_earlier_trainers() -> None:
    """And a logger of those days ignores the question."""
    hello = WIRE["hello"].message
    assert isinstance(hello, Hello)
    asking = Hello(hello.stream, hello.run, hello.rank, hello.attempt, hello.next_sequence, findings=True)
    assert b"findings" not in encode_wire(hello)
    assert decode_wire(encode_wire(asking)) == asking
    assert decode_wire(WIRE["hello"].data) == hello


LARGEST = Finding(
    "r" * FINDING_TEXT_MAX_CHARACTERS,
    "error",
    "\N{GRINNING FACE}" * FINDING_TEXT_MAX_CHARACTERS,
    "open",
    -(2**63),
    2**63 - 1,
    2**63 - 1,
    float("inf"),
    {f"{number:02}" + "\N{GRINNING FACE}" * (EVIDENCE_NAME_MAX_CHARACTERS - 2): 0.1 for number in range(EVIDENCE_MAX)},
    "\N{GRINNING FACE}" * FINDING_TEXT_MAX_CHARACTERS,
)


def test_the_largest_finding_fits_a_message() -> None:
    assert list(findings_that_fit([LARGEST])) == [LARGEST]
    assert decode_wire(encode_wire(Findings([LARGEST]))) == Findings([LARGEST])


@given(st.integers(0, 2 * FINDINGS_MESSAGE_MAX), st.sets(st.integers(0, FINDINGS_MESSAGE_MAX), max_size=4))
def test_the_findings_that_fit_fill_a_message_and_are_the_first(count: int, large: set[int]) -> None:
    many = [LARGEST if number in large else FINDING for number in range(count)]
    some = list(findings_that_fit(many))
    message = encode_wire(Findings(some))
    assert some == many[: len(some)]
    assert bool(some) == bool(many)
    assert len(message) <= CONTROL_MESSAGE_SIZE_MAX_BYTES
    assert decode_wire(message) == Findings(some)
    if len(some) < len(many):
        size = sum(len(encode_body(finding)) for finding in many[: len(some) + 1])
        assert len(some) == FINDINGS_MESSAGE_MAX or size > FINDINGS_SIZE_MAX_BYTES


@pytest.mark.parametrize(
    "finding",
    [
        replace(FINDING, rule="r" * (FINDING_TEXT_MAX_CHARACTERS + 1)),
        replace(FINDING, severity="fatal"),
        replace(FINDING, state="lost"),
        replace(FINDING, count=2.5),
        replace(FINDING, evidence={str(number): 0.0 for number in range(EVIDENCE_MAX + 1)}),
        replace(FINDING, evidence={"x" * (EVIDENCE_NAME_MAX_CHARACTERS + 1): 0.0}),
    ],
    ids=["text", "severity", "state", "count", "evidence", "name"],
)
def test_a_finding_beyond_its_bounds_is_malformed(finding: Finding) -> None:
    data = encode_wire(Findings([finding]))
    assert is_findings(data)
    with pytest.raises(Malformed):
        decode_wire(data)


def test_too_many_findings_are_malformed() -> None:
    with pytest.raises(Malformed):
        decode_wire(encode_wire(Findings([FINDING] * (FINDINGS_MESSAGE_MAX + 1))))
