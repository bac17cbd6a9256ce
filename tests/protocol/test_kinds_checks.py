"""Every rule that a message keeps beyond its types."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from support.records.golden import RECORDS, SUMMARY
from support.records.strategies import messages

from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.array import Array, pack_array
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, TooLarge
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.messages import Chart, GraphNode, Layout, Message, Scalars, TensorSummaries, Text

LONG = "x" * (limits.LABEL_MAX_CHARACTERS + 1)


def changed(name: str, **fields: Any) -> Message:
    """Return the golden message of a kind with some fields changed."""
    message = RECORDS[name].message
    replaced: Message = msgspec.structs.replace(message, **fields)
    return replaced


def summary(**fields: Any) -> Message:
    return TensorSummaries({"w": msgspec.structs.replace(SUMMARY, **fields)})


def buckets(*indexes: int, mantissa_bits: int = 3) -> Message:
    counts = pack_array(np.ones(len(indexes), np.uint64))
    return summary(mantissa_bits=mantissa_bits, indexes=pack_array(np.array(indexes, np.uint16)), counts=counts)


def zeros(dtype: str, *shape: int) -> Array:
    return pack_array(np.zeros(shape, dtype))


MALFORMED: list[tuple[Message, str]] = [
    (changed("segment", stream=b"short"), "stream of 5 bytes"),
    (changed("segment", first_sequence=0), "first sequence 0"),
    (changed("segment", rank=-1), "rank -1"),
    (changed("segment", attempt=2**31), "attempt 2147483648"),
    (changed("segment", run="../escape"), "begins with a dot"),
    (changed("run_start", first_step=-1), "step -1"),
    (Scalars({"": 1.0}), "a tag is empty"),
    (Scalars({"a\n": 1.0}), "control characters"),
    (summary(counts=zeros("uint64", 3)), "2 indexes for 3 counts"),
    (summary(counts=zeros("int64", 2)), "dtype 'int64' came; expected one of uint64"),
    (summary(indexes=zeros("uint16", 1, 2)), "2 dimensions came; expected 1"),
    (summary(mantissa_bits=4), "4 mantissa bits came; expected 0 to 3"),
    (buckets(5, 5), "bucket indexes are not ascending"),
    (buckets(6, 5), "bucket indexes are not ascending"),
    (buckets(1 << 12), "not ascending below 2**12"),
    (buckets(0), "a bucket of zeros"),
    (buckets(1 << 11), "a bucket of zeros"),
    (buckets(255 << 3), "infinities or NaN"),
    (buckets(511 << 3 | 7), "infinities or NaN"),
    (buckets(511, mantissa_bits=0), "infinities or NaN"),
    (summary(zeros=-1), "a count is negative"),
    (summary(negative_infinities=-1), "a count is negative"),
    (summary(minimum=-math.inf), "minimum -inf, maximum 1.1"),
    (summary(maximum=math.nan), "maximum nan"),
    (changed("matrix", values=zeros("float64", 1, 1)), "dtype 'float64' came; expected one of float16, float32"),
    (changed("matrix", values=zeros("float32", 0, 1)), "is empty"),
    (changed("matrix", value_range=(1.0, 1.0)), "expected finite low < high"),
    (changed("matrix", value_range=(0.0, math.inf)), "expected finite low < high"),
    (changed("images", images=zeros("uint8", 1, 1, 3)), "3 dimensions came; expected 4"),
    (changed("images", images=zeros("uint8", 0, 1, 1, 3)), "is empty"),
    (changed("images", images=zeros("uint8", 1, 1, 1, 2)), "2 channels"),
    (changed("images", captions=["one", "two"]), "2 labels came; expected 1"),
    (changed("text", tag="\u202edeceptive"), "direction marks"),
    (changed("audio", sample_rate_hz=0), "sample rate 0 Hz"),
    (changed("audio", clips=[zeros("int16", 5, 9)]), "9 channels"),
    (changed("audio", clips=[zeros("float32", 5, 1)]), "expected one of int16"),
    (changed("audio", captions=["one", "two"]), "2 labels came; expected 1"),
    (changed("embedding", rows=[["a"], ["b"]]), "metadata of 2 rows for 1 vectors"),
    (changed("embedding", rows=[]), "metadata of 0 rows for 1 vectors"),
    (changed("embedding", columns=[]), "metadata of 1 rows for 1 vectors"),
    (changed("embedding", rows=[["a", "b"]]), "2 labels came; expected 1"),
    (changed("embedding", thumbnails=zeros("uint8", 2, 1, 1, 3)), "thumbnails of shape"),
    (changed("embedding", thumbnails=zeros("uint8", 1, 1, 1, 4)), "thumbnails of shape"),
    (changed("embedding", first_row=1), "a part of 1 rows from row 1 on, of 0 rows"),
    (changed("embedding", first_row=-1, row_count=5), "a part of 1 rows from row -1 on, of 5 rows"),
    (changed("embedding", first_row=5, row_count=5), "a part of 1 rows from row 5 on, of 5 rows"),
    (changed("embedding", first_row=0, row_count=-1), "a part of 1 rows from row 0 on, of -1 rows"),
    (changed("graph", nodes=[GraphNode("n", "Linear", output_shapes=[[-2]])]), "output shapes"),
    (changed("graph", nodes=[GraphNode("n", "Linear", output_shapes=[[2**63]])]), "output shapes"),
    (Layout({"a": {"b": Chart("margin", ["value"])}}), "1 labels came; expected 3"),
    (changed("gap", kinds={"matrix": -1}), "negative counts"),
]
TOO_LARGE: list[tuple[Message, str]] = [
    (changed("run_start", config={"a": LONG}), "label in characters"),
    (Scalars(dict.fromkeys(map(str, range(limits.TAGS_MAX + 1)), 0.0)), "tags in one record"),
    (buckets(*range(limits.BUCKETS_MAX + 1)), "buckets"),
    (changed("matrix", values=zeros("float16", limits.MATRIX_SIDE_MAX + 1, 1)), "largest side"),
    (changed("matrix", title=LONG), "label in characters"),
    (changed("images", images=zeros("uint8", limits.IMAGES_MAX + 1, 1, 1, 3), captions=[]), "pictures"),
    (changed("images", images=zeros("uint8", 1, limits.IMAGE_SIDE_MAX + 1, 1, 1)), "largest side"),
    (Text("t", "x" * (limits.TEXT_MAX_CHARACTERS + 1)), "in characters"),
    (Text("x" * (limits.TAG_MAX_CHARACTERS + 1), ""), "in characters"),
    (changed("audio", clips=[zeros("int16", 1, 1)] * (limits.CLIPS_MAX + 1), captions=[]), "clips"),
    (changed("embedding", columns=["c"] * (limits.EMBEDDING_COLUMNS_MAX + 1)), "columns"),
    (changed("embedding", vectors=zeros("float32", limits.EMBEDDING_ROWS_MAX + 1, 1)), "largest side"),
    (changed("embedding", row_count=limits.EMBEDDING_ROWS_TOTAL_MAX + 1), "rows of all parts"),
    (changed("graph", nodes=[GraphNode("n", "o")] * (limits.GRAPH_NODES_MAX + 1)), "nodes"),
    (changed("graph", nodes=[GraphNode("n", "o", [LONG])]), "label in characters"),
    (changed("graph", nodes=[GraphNode("n", "o", output_shapes=[[1] * 9])]), "sides of an output"),
    (changed("graph", nodes=[GraphNode("n", "o", output_shapes=[[1] * 8] * 256)] * 218), "graph: parts"),
    (Layout({"a": {"b": Chart("multiline", [LONG])}}), "label in characters"),
    (Layout({"a": {str(n): Chart("multiline", [""] * 1000) for n in range(20)}}), "layout: parts"),
    (changed("hparams", parameters={"lr": LONG}), "label in characters"),
    (changed("gap", reason=LONG), "label in characters"),
]


@given(messages)
def test_what_keeps_the_rules_passes(message: Message) -> None:
    check_message(message)


@pytest.mark.parametrize("name", RECORDS)
def test_golden_messages_keep_the_rules(name: str) -> None:
    check_message(RECORDS[name].message)


@pytest.mark.parametrize(("message", "problem"), MALFORMED, ids=[problem for _, problem in MALFORMED])
def test_a_broken_rule_is_named(message: Message, problem: str) -> None:
    with pytest.raises(Malformed) as refused:
        check_message(message)
    assert problem in str(refused.value)


@pytest.mark.parametrize(("message", "what"), TOO_LARGE, ids=[what for _, what in TOO_LARGE])
def test_a_passed_limit_is_named_with_both_sizes(message: Message, what: str) -> None:
    with pytest.raises(TooLarge) as refused:
        check_message(message)
    assert what in str(refused.value)
    assert refused.value.size > refused.value.limit
    assert f"{refused.value.size:,} is above the limit of {refused.value.limit:,}" in str(refused.value)


def test_what_is_too_large_for_the_types_is_refused_by_the_checks_too() -> None:
    """The sender checks a message before encoding, without the length checks of a decoder."""
    with pytest.raises(ProtocolError):
        check_message(changed("graph", nodes=[GraphNode("n", "o", ["i"] * (limits.GRAPH_NODE_LINKS_MAX + 1))]))
    with pytest.raises(ProtocolError):
        check_message(changed("gap", kinds=dict.fromkeys(map(str, range(limits.KINDS_MAX + 1)), 1)))
    with pytest.raises(ProtocolError):
        check_message(Layout({"a": {str(n): Chart("multiline", []) for n in range(limits.LAYOUT_CHARTS_MAX + 1)}}))


def test_numbers_that_are_not_finite_are_values_too() -> None:
    check_message(Scalars({"nan": math.nan, "inf": math.inf}))
    check_message(summary(sum=math.inf, sum_squares=math.nan))
