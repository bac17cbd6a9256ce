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


def histogram(edges: list[float], counts: list[float]) -> Message:
    return changed("histogram", limits=pack_array(np.array(edges)), counts=pack_array(np.array(counts)))


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
    (changed("run_start", first_step=-(2**53)), "first step -9007199254740992; expected 0 or more"),
    (changed("run_start", file_suffix="a/b"), "separator of folders"),
    (changed("audio", single=True, clips=[], captions=[]), "0 clips in a summary of a single sound"),
    (changed("hparams", folder="../up"), "folder '../up': a component is empty or begins with a dot"),
    (changed("hparams", folder="hparams-0a1b2c3d4e5f"), "the logger itself makes"),
    (changed("hparams", domains={"momentum": [0.5]}), "a domain of 'momentum', which is none of the hyperparameters"),
    (changed("overlay", values={"": 1.0}), "folder ''"),
    (changed("overlay", values={"a/../../b": 1.0}), "folder 'a/../../b'"),
    (changed("overlay", values={"/tmp": 1.0}), "folder '/tmp'"),
    (changed("event", folder="projector"), "the logger itself makes"),
    (changed("event", event=b""), "an event of 0 bytes"),
    (changed("video", frames=zeros("uint8", 1, 1, 1, 3)), "4 dimensions came; expected 5"),
    (changed("video", frames=zeros("uint8", 1, 1, 1, 1, 2)), "2 channels"),
    (changed("video", frames=zeros("uint8", 1, 0, 1, 1, 3)), "is empty"),
    (changed("video", frames=zeros("uint8", 0, 1, 1, 1, 3)), "is empty"),
    (changed("video", frames_per_second=0.0), "0.0 pictures a second; expected more than 0"),
    (changed("video", frames_per_second=math.nan), "nan pictures a second"),
    (changed("video", frames_per_second=math.inf), "inf pictures a second"),
    (changed("pr_curve", labels=zeros("uint8", 3)), "3 labels for 2 predictions"),
    (changed("pr_curve", labels=pack_array(np.array([2, 0], np.uint8))), "neither 0 nor 1"),
    (changed("pr_curve", predictions=zeros("float64", 2)), "expected one of float32"),
    (changed("pr_curve", weights=zeros("float32", 3)), "3 weights for 2 predictions"),
    (changed("pr_curve", weights=pack_array(np.array([1, math.nan], np.float32))), "weights that are not finite"),
    (changed("pr_curve", threshold_count=0), "0 thresholds; expected 1 or more"),
    (changed("pr_curve_raw", rows=zeros("float32", 5, 1)), "5 rows; expected float32 [6, thresholds]"),
    (changed("pr_curve_raw", rows=zeros("float32", 6, 0)), "is empty"),
    (changed("mesh", vertices=zeros("float32", 1, 3, 2)), "vertices of shape (1, 3, 2); expected [B, N, 3]"),
    (changed("mesh", vertices=zeros("float32", 3, 3)), "2 dimensions came; expected 3"),
    (changed("mesh", vertices=zeros("float32", 0, 3, 3)), "expected [B, N, 3]"),
    (changed("mesh", colors=zeros("uint8", 1, 2, 3)), "colors of shape (1, 2, 3) for vertices of shape (1, 3, 3)"),
    (changed("mesh", faces=zeros("int32", 2, 1, 3)), "faces of shape (2, 1, 3) for vertices of shape (1, 3, 3)"),
    (changed("mesh", faces=zeros("int64", 1, 1, 3)), "expected one of int32"),
    (changed("mesh", config="[]"), "expected a JSON object"),
    (changed("mesh", config='{"a": NaN}'), "expected a JSON object"),
    (changed("mesh", config='{"a": \ud800}'), "expected a JSON object"),
    (changed("mesh", config='{"a": ' + "[" * 4_000), "expected a JSON object"),
    (changed("boxes", image=zeros("uint8", 2, 2)), "2 dimensions came; expected 3"),
    (changed("boxes", image=zeros("uint8", 2, 2, 2)), "2 channels"),
    (changed("boxes", boxes=zeros("float32", 1, 5)), "boxes of shape (1, 5); expected float32 [K, 4]"),
    (changed("boxes", boxes=pack_array(np.full((1, 4), math.inf, np.float32))), "boxes that are not finite"),
    (changed("boxes", labels=["one", "two"]), "2 labels came; expected 1"),
    (changed("boxes", scale=math.nan), "a picture of 2 x 2 at scale nan"),
    (changed("boxes", scale=-1.0), "at scale -1.0; expected sides of 1 to 8,192"),
    (changed("boxes", scale=1e9), "at scale 1000000000.0"),
    (changed("histogram", limits=zeros("float64", 2)), "2 limits for 1 counts"),
    (changed("histogram", limits=zeros("float64", 0), counts=zeros("float64", 0)), "is empty"),
    (changed("histogram", limits=pack_array(np.array([math.nan]))), "limits that do not ascend"),
    (histogram([2.0, 1.0], [1.0, 1.0]), "limits that do not ascend"),
    (histogram([1.0, math.nan], [1.0, 1.0]), "limits that do not ascend"),
    (histogram([1.0, 2.0], [1.0, -1.0]), "a count is negative or no number"),
    (histogram([1.0, 2.0], [1.0, math.nan]), "a count is negative or no number"),
    (histogram([1.0, 2.0], [1.0, math.inf]), "counts that are not finite"),
    (changed("histogram", minimum=math.nan), "minimum nan, maximum 1.0; expected numbers"),
    (changed("tensor", values=Array("float128", (1,), bytes(16))), "dtype 'float128' came"),
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
    (changed("run_start", file_suffix="x" * (limits.FILE_SUFFIX_MAX_BYTES + 1)), "file suffix in bytes"),
    (changed("hparams", folder="x" * 300), "folder name's component in bytes"),
    (changed("hparams", domains={"lr": [0.5] * (limits.DOMAIN_VALUES_MAX + 1)}), "domain of 'lr'"),
    (changed("hparams", domains={"lr": [LONG]}), "label in characters"),
    (
        changed("hparams", domains={str(n): [1] for n in range(limits.DOMAIN_VALUES_MAX + 1)}),
        "hyperparameters with a domain",
    ),
    (changed("point", display_name=LONG), "label in characters"),
    (changed("point", description="x" * (limits.TEXT_MAX_CHARACTERS + 1)), "description in characters"),
    (changed("overlay", values=dict.fromkeys(map(str, range(limits.OVERLAY_CURVES_MAX + 1)), 0.0)), "curves"),
    (changed("overlay", values={"/".join("a" * 33): 0.0}), "folder name's depth"),
    (changed("event", folder="/".join(["x" * 205] * 5)), "folder name in bytes"),
    (changed("video", frames=zeros("uint8", limits.VIDEO_CLIPS_MAX + 1, 1, 1, 1, 1)), "clips"),
    (changed("video", frames=zeros("uint8", 1, limits.VIDEO_FRAMES_MAX + 1, 1, 1, 1)), "pictures of a clip"),
    (changed("video", frames=zeros("uint8", 1, 1, 1, limits.IMAGE_SIDE_MAX + 1, 1)), "largest side"),
    (changed("pr_curve", threshold_count=limits.PR_THRESHOLDS_MAX + 1), "thresholds"),
    (changed("pr_curve_raw", rows=zeros("float32", 6, limits.PR_THRESHOLDS_MAX + 1)), "thresholds"),
    (changed("mesh", config='{"a": "' + LONG + '"}'), "label in characters"),
    (changed("boxes", image=zeros("uint8", 1, limits.IMAGE_SIDE_MAX + 1, 1)), "largest side"),
    (changed("boxes", boxes=zeros("float32", limits.BOXES_MAX + 1, 4), labels=[]), "boxes"),
    (changed("boxes", labels=[LONG]), "label in characters"),
    (histogram([0.0] * (limits.HISTOGRAM_BUCKETS_MAX + 1), [0.0] * (limits.HISTOGRAM_BUCKETS_MAX + 1)), "buckets"),
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
    check_message(changed("point", value=math.nan))
    check_message(changed("overlay", values={"a": math.inf}))
    check_message(changed("pr_curve", predictions=pack_array(np.array([math.nan, -5], np.float32))))
    check_message(changed("pr_curve_raw", rows=pack_array(np.full((6, 1), math.nan, np.float32))))
    check_message(changed("mesh", vertices=pack_array(np.full((1, 3, 3), math.inf, np.float32))))
    check_message(histogram([-math.inf, 0.0, math.inf], [0.0, 1.0, 2.0]))
    check_message(changed("tensor", values=pack_array(np.full((1, 0), math.nan))))
