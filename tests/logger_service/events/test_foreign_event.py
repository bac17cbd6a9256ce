"""Events of other programs: what is a summary or a graph passes, everything else costs its record and no memory."""

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary
from tensorboardX.proto.tensor_pb2 import TensorProto

from tensorboard_sidecar.logger_service.events.foreign_event import PARTS_MAX, check_parts, parse_event
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS

SUMMARY = Summary(
    value=[
        Summary.Value(tag="a", simple_value=0.5),
        Summary.Value(tag="h", histo=HistogramProto(min=1, max=2, bucket_limit=[1, 2], bucket=[3, 4])),
        Summary.Value(tag="i", image=Summary.Image(height=1, width=2, encoded_image_string=b"no png")),
        Summary.Value(tag="t", tensor=TensorProto(dtype="DT_INT64", int64_val=[1, -1])),
    ]
)
GRAPH = GraphDef(node=[NodeDef(name="a", op="x"), NodeDef(name="b", op="y", input=["a"])])


def field(number: int, content: bytes) -> bytes:
    """Return a field of bytes, in protobuf's encoding."""
    size, head = len(content), bytearray((number << 3 | 2,))
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes((*head, size)) + content


def test_a_summary_passes_without_its_step_and_time() -> None:
    event = parse_event(Event(wall_time=5.0, step=7, summary=SUMMARY).SerializeToString())
    assert event == Event(summary=SUMMARY)


def test_a_graph_passes() -> None:
    event = parse_event(Event(step=7, graph_def=GRAPH.SerializeToString()).SerializeToString())
    assert GraphDef.FromString(event.graph_def) == GRAPH


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        b"\xff" * 20,
        Event(file_version="brain.Event:2").SerializeToString(),
        Event(summary=Summary()).SerializeToString(),
        Event(graph_def=b"").SerializeToString(),
        Event(graph_def=b"rubbish").SerializeToString(),
        Event(graph_def=GraphDef().SerializeToString()).SerializeToString(),
        field(8, b""),
        field(7, b"\x08\x01"),
        field(3, b"\xff\xfe"),
        field(5, field(1, field(1, b"\xff"))),
        b"\x0b\x0c",
    ],
)
def test_what_shows_nothing_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed, match="an event"):
        parse_event(data)


def test_an_event_cut_anywhere_is_an_event_or_malformed() -> None:
    for whole in (Event(summary=SUMMARY), Event(graph_def=GRAPH.SerializeToString())):
        data = whole.SerializeToString()
        for size in range(len(data)):
            parse_or_refuse(data[:size])
        assert parse_event(data) == whole


def test_an_event_with_a_flipped_bit_is_an_event_or_malformed() -> None:
    for whole in (Event(summary=SUMMARY), Event(graph_def=GRAPH.SerializeToString())):
        number, size = int.from_bytes(whole.SerializeToString()), whole.ByteSize()
        for bit in range(8 * size):
            parse_or_refuse((number ^ 1 << bit).to_bytes(size))


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.binary(max_size=40).map(lambda data: field(5, field(1, data))))
def test_rubbish_is_an_event_or_malformed(data: bytes) -> None:
    parse_or_refuse(data)


def parse_or_refuse(data: bytes) -> None:
    """Parse; an event that passes passes again."""
    try:
        event = parse_event(data)
    except Malformed:
        return
    assert parse_event(event.SerializeToString()) == event


def test_a_tag_that_does_not_print_is_replaced_and_a_long_one_is_cut() -> None:
    tags = ["a\nb\x00\u202e", "x" * 1000, "", "fine"]
    event = Event(summary=Summary(value=[Summary.Value(tag=tag, simple_value=1.0) for tag in tags]))
    shown = [value.tag for value in parse_event(event.SerializeToString()).summary.value]
    assert shown == ["a\ufffdb\ufffd\ufffd", "x" * TAG_MAX_CHARACTERS, "", "fine"]


NESTED_DEEPLY = b""
for _ in range(200):  # an attribute with a function with an attribute ...
    NESTED_DEEPLY = field(10, field(2, field(1, b"k") + field(2, NESTED_DEEPLY)))
BOMBS: dict[str, Callable[[], bytes]] = {
    "a million empty values": lambda: field(5, b"\x0a\x00" * 1_000_000),
    "a million empty nodes": lambda: field(4, b"\x0a\x00" * 1_000_000),
    "a million empty texts": lambda: field(5, field(1, field(8, b"\x42\x00" * 1_000_000))),
    "a million sides": lambda: field(5, field(1, field(8, field(2, b"\x12\x00" * 1_000_000)))),
    "ten million whole numbers": lambda: field(5, field(1, field(8, field(10, bytes(10_000_000))))),
    "a million numbers, one field each": lambda: field(5, field(1, field(8, b"\x50\x01" * 1_000_000))),
    "very deep": lambda: field(4, field(1, field(5, field(2, NESTED_DEEPLY)))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_malformed_before_protobuf_sees_it(name: str) -> None:
    data = BOMBS[name]()
    with pytest.raises(Malformed):
        parse_event(data)
    tracemalloc.start()
    try:
        with pytest.raises(Malformed):
            check_parts(data, 10_000)
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


def test_ordinary_large_events_pass() -> None:
    """A graph of 5,000 nodes, a tensor of a million float32, a picture of 4 MB."""
    nodes = [NodeDef(name=f"n{n}", op="x", input=[f"n{n - 1}"] * 3) for n in range(5_000)]
    assert parse_event(Event(graph_def=GraphDef(node=nodes).SerializeToString()).SerializeToString())
    numbers = Summary.Value(tag="t", tensor=TensorProto(float_val=[0.5] * 1_000_000))
    picture = Summary.Value(tag="i", image=Summary.Image(encoded_image_string=bytes(2**22)))
    event = Event(summary=Summary(value=[numbers, picture]))
    assert parse_event(event.SerializeToString()) == event
    values = Event(summary=Summary(value=[Summary.Value(tag=str(n), simple_value=n) for n in range(PARTS_MAX // 4)]))
    assert len(parse_event(values.SerializeToString()).summary.value) == PARTS_MAX // 4
