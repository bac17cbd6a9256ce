"""Hypothesis strategies: messages of every kind, within their limits."""

from typing import Any, Final

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tensorboard_sidecar.protocol.array import DTYPES, Array, pack_array
from tensorboard_sidecar.protocol.limits import SEQUENCE_MAX, STEP_MAX
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Boxes,
    Chart,
    Embedding,
    Event,
    Gap,
    Graph,
    GraphNode,
    Histogram,
    HParams,
    Images,
    Layout,
    Matrix,
    Mesh,
    Message,
    Overlay,
    Point,
    PrCurve,
    PrCurveRaw,
    RunEnd,
    RunStart,
    Scalars,
    SegmentHead,
    Tensor,
    TensorSummaries,
    TensorSummary,
    Text,
    Video,
)

PRINTABLE: Final = st.characters(exclude_categories=["Cc", "Cs", "Cf"])
COUNTS: Final = st.integers(0, 2**63 - 1)
NUMBERS: Final = st.floats(allow_nan=False)
FINITE: Final = st.floats(allow_nan=False, allow_infinity=False)

labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
tags = st.text(PRINTABLE, min_size=1, max_size=20).filter(lambda tag: not tag.isspace())
components = st.text(st.sampled_from('abcXYZ019_-é~:*?"<>|'), min_size=1, max_size=8)
runs = st.lists(components, min_size=1, max_size=4).map("/".join)
parameters = st.dictionaries(tags, st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBERS | labels, max_size=4)
values = st.dictionaries(tags, NUMBERS, max_size=6)


def arrays(dtype: str, *sides: int) -> st.SearchStrategy[Array]:
    """Return arrays with the given largest sides, each at least 1."""
    shapes = st.tuples(*(st.integers(1, side) for side in sides))
    return st_numpy.arrays(np.dtype(dtype), shapes).map(pack_array)


def of_shape(dtype: str, *shape: int, elements: st.SearchStrategy[Any] | None = None) -> st.SearchStrategy[Array]:
    """Return arrays of exactly this shape."""
    return st_numpy.arrays(np.dtype(dtype), shape, elements=elements).map(pack_array)


@st.composite
def summaries(draw: st.DrawFn) -> TensorSummary:
    """Return a summary with occupied buckets of finite values, at any resolution."""
    bits = draw(st.integers(0, 3))
    magnitudes = st.integers(1, (255 << bits) - 1)
    both = st.tuples(magnitudes, st.booleans()).map(lambda pair: pair[0] | pair[1] << (8 + bits))
    indexes = sorted(draw(st.sets(both, max_size=8)))
    counts = draw(st.lists(COUNTS, min_size=len(indexes), max_size=len(indexes)))
    return TensorSummary(
        *draw(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)),
        *draw(st.tuples(FINITE, FINITE, NUMBERS, NUMBERS)),
        bits,
        pack_array(np.array(indexes, np.uint16)),
        pack_array(np.array(counts, np.uint64)),
    )


@st.composite
def images(draw: st.DrawFn) -> Images:
    """Return pictures with 1, 3 or 4 channels, with or without captions."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from((1, 3, 4))))
    pictures = pack_array(draw(st_numpy.arrays(np.uint8, shape)))
    captions = draw(st.sampled_from((0, shape[0])))
    return Images(draw(tags), pictures, draw(st.lists(labels, min_size=captions, max_size=captions)))


@st.composite
def embeddings(draw: st.DrawFn) -> Embedding:
    """Return points, or a part of them, with or without metadata and thumbnails."""
    vectors = draw(arrays("float32", 4, 3))
    columns = draw(st.lists(labels, max_size=3))
    row = st.lists(labels, min_size=len(columns), max_size=len(columns))
    rows = draw(st.lists(row, min_size=vectors.shape[0], max_size=vectors.shape[0])) if columns else []
    thumbnails = pack_array(np.zeros((vectors.shape[0], 2, 2, 3), np.uint8))
    first_row = draw(st.sampled_from((0, 0, 7)))
    row_count = first_row + vectors.shape[0] + draw(st.integers(0, 9)) if first_row or draw(st.booleans()) else 0
    return Embedding(
        draw(tags), vectors, columns, rows, draw(st.sampled_from((None, thumbnails))), first_row, row_count
    )


ranges = st.tuples(st.integers(-9, 0), st.integers(1, 9)).map(lambda pair: (float(pair[0]), float(pair[1])))
matrices = st.builds(
    Matrix,
    tags,
    arrays("float16", 3, 4) | arrays("float32", 3, 4),
    labels,
    labels,
    labels,
    st.none() | ranges,
)
audios = st.builds(
    lambda tag, clips, rate, caption: Audio(tag, clips, rate, [caption] * len(clips)),
    tags,
    st.lists(arrays("int16", 5, 2), max_size=3),
    st.integers(1, 384_000),
    labels,
)
nodes = st.builds(
    GraphNode,
    labels,
    labels,
    st.lists(labels, max_size=2),
    st.lists(st.lists(st.integers(-1, 2**63 - 1), max_size=4), max_size=2),
    st.dictionaries(labels, labels, max_size=2),
)
charts = st.builds(Chart, st.just("multiline"), st.lists(labels, max_size=3)) | st.builds(
    Chart, st.just("margin"), st.lists(labels, min_size=3, max_size=3)
)


@st.composite
def videos(draw: st.DrawFn) -> Video:
    """Return clips with 1, 3 or 4 channels at any rate."""
    shape = draw(st.tuples(*(st.integers(1, side) for side in (3, 3, 4, 4)), st.sampled_from((1, 3, 4))))
    return Video(draw(tags), draw(of_shape("uint8", *shape)), draw(st.floats(0, 1_000, exclude_min=True)))


@st.composite
def pr_curves(draw: st.DrawFn) -> PrCurve:
    """Return samples with or without weights; some predictions are outside of 0..1, or no numbers."""
    count = draw(st.integers(0, 6))
    weights = draw(st.none() | of_shape("float32", count, elements=st.floats(-4, 4, width=32)))
    labels_01 = draw(of_shape("uint8", count, elements=st.integers(0, 1)))
    return PrCurve(draw(tags), labels_01, draw(of_shape("float32", count)), draw(st.integers(1, 200)), weights)


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    """Return points with or without colours, faces and a config."""
    batch, points = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    return Mesh(
        draw(tags),
        draw(of_shape("float32", batch, points, 3)),
        draw(st.none() | of_shape("uint8", batch, points, 3)),
        draw(st.none() | of_shape("int32", batch, 2, 3)),
        draw(st.sampled_from(("", "{}", '{"material": {"size": 2}}'))),
    )


@st.composite
def boxes(draw: st.DrawFn) -> Boxes:
    """Return a picture with boxes anywhere, with or without labels."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.sampled_from((1, 3, 4))))
    count = draw(st.integers(0, 3))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    names = draw(st.sampled_from((0, count)))
    return Boxes(
        draw(tags),
        draw(of_shape("uint8", *shape)),
        draw(of_shape("float32", count, 4, elements=finite)),
        draw(st.lists(labels, min_size=names, max_size=names)),
        draw(st.floats(1, 8)),
    )


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    """Return finished histograms with edges in any distance."""
    edges = sorted(draw(st.lists(NUMBERS, min_size=1, max_size=6)))
    counts = draw(of_shape("float64", len(edges), elements=st.floats(0, 1e300)))
    numbers = draw(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS))
    return Histogram(draw(tags), *numbers, pack_array(np.array(edges, np.float64)), counts)


# Messages of every kind by type; tests/protocol/test_kinds.py compares the keys with the table of kinds.
MESSAGES: Final[dict[type[Message], st.SearchStrategy[Message]]] = {
    SegmentHead: st.builds(
        SegmentHead,
        st.binary(min_size=16, max_size=16),
        runs,
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**31 - 1),
        st.integers(1, SEQUENCE_MAX),
    ),
    RunStart: st.builds(
        RunStart, st.integers(0, STEP_MAX), parameters, st.booleans(), st.sampled_from(("", ".trial-7", "x", "7"))
    ),
    Scalars: st.builds(Scalars, values),
    TensorSummaries: st.builds(TensorSummaries, st.dictionaries(tags, summaries(), max_size=3)),
    Matrix: matrices,
    Images: images(),
    Text: st.builds(Text, tags, labels),
    Audio: audios,
    Embedding: embeddings(),
    Graph: st.builds(Graph, st.lists(nodes, max_size=3)),
    Layout: st.builds(Layout, st.dictionaries(labels, st.dictionaries(labels, charts, max_size=2), max_size=2)),
    HParams: st.builds(HParams, parameters, values)
    | st.builds(
        HParams, st.just({"lr": 0.5, "name": "a"}), values, runs, st.just({"lr": [0.5, 1], "name": ["a", "b"]})
    ),
    Gap: st.builds(Gap, labels, st.dictionaries(labels, COUNTS, max_size=3)),
    RunEnd: st.builds(RunEnd, st.sampled_from(("completed", "failed", "interrupted", "exited"))),
    Point: st.builds(Point, tags, NUMBERS, st.sampled_from(("simple", "float", "double")), labels, labels),
    Overlay: st.builds(Overlay, tags, st.dictionaries(runs, NUMBERS, max_size=4)),
    # A summary with one value, "raw" or "row".
    Event: st.builds(
        Event,
        st.sampled_from([bytes.fromhex(f"2a0c 0a0a 0a0372{letter}77 150000003f") for letter in ("61", "6f")]),
        st.just("") | runs,
    ),
    Video: videos(),
    PrCurve: pr_curves(),
    PrCurveRaw: st.builds(PrCurveRaw, tags, st.integers(1, 3).flatmap(lambda count: of_shape("float32", 6, count))),
    Mesh: meshes(),
    Boxes: boxes(),
    Histogram: histograms(),
    Tensor: st.builds(
        Tensor, tags, st.sampled_from(sorted(DTYPES)).flatmap(lambda dtype: arrays(dtype, 3, 2) | of_shape(dtype))
    ),
}
messages: st.SearchStrategy[Message] = st.one_of(*MESSAGES.values())
# Any value that msgpack can encode.
plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | labels | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(labels | st.integers(0, 3), inner, max_size=4),
    max_leaves=12,
)
