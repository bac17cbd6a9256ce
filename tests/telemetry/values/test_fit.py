"""Whatever the sizes are: what is kept fits the limits, is in order and whole, and every loss is told once."""

import enum
import math
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.messages import Audio, Chart, Graph, GraphNode, Images, Layout, Matrix, Text
from tensorboard_sidecar.telemetry.values import fit
from tensorboard_sidecar.telemetry.values.tags import shown_tag

META: Final = torch.zeros((), device="meta")
SHORT: Final = st.text(st.sampled_from("ab\ud83d"), max_size=3)
HALF: Final = "\ud83d"


class Notes(list[tuple[str, str]]):
    """The losses that were told: the part of the call (OutOfScale: "scale"), and the text."""

    def __call__(self, error: Exception) -> None:
        part = error.part if isinstance(error, fit.Cut) else "scale"
        self.append((part, str(error).removeprefix(f"{part}: ")))

    @property
    def parts(self) -> list[str]:
        return [part for part, _ in self]


@pytest.fixture
def notes() -> Notes:
    return Notes()


class Colour(enum.StrEnum):
    RED = "red"


class Reading:
    """A value whose text needs a number from a device."""

    def __str__(self) -> str:
        return f"loss {META.item()}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (Colour.RED, "red"),
        (np.str_("numpy"), "numpy"),
        (b"caf\xc3\xa9", "café"),
        (b"caf\xe9", "caf\ufffd"),
        (bytearray(b"x"), "x"),
        (None, "None"),
        (5, "5"),
        (np.float32(0.5), "0.5"),
        (torch.tensor(3), "3"),
        (torch.tensor([1, 2]), "tensor([1, 2])"),
        (["a", 1], "['a', 1]"),
        ("\ud83d\ude00", "\U0001f600"),
        (f"a{HALF}b", "a\ufffdb"),
        ([META], "[tensor on meta of shape ()]"),
    ],
)
def test_any_value_has_a_text(value: object, text: str) -> None:
    made = fit.as_text(value)
    assert type(made) is str
    assert made == text


@pytest.mark.parametrize("value", [META, Reading()])
def test_a_text_that_needs_a_device_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=r"a tensor on meta.*, which the loop would wait for"):
        fit.as_text(value)


@given(text=st.text(st.characters(), max_size=200), characters_max=st.integers(60, 120))
def test_a_long_text_is_cut_and_its_last_line_says_so(text: str, characters_max: int) -> None:
    notes = Notes()
    made = fit.text("t", text, notes, characters_max)
    made.encode()
    assert len(made) <= characters_max
    whole = fit.as_text(text)
    if len(whole) <= characters_max:
        assert made == whole
    else:
        kept, _, last = made.rpartition("\n\n")
        assert whole.startswith(kept)
        assert last == f"... (cut: {len(kept)} of {len(whole)} characters are shown)"
    assert notes.parts == ["text"] * ((whole != text) + (made != whole))


def test_a_book_fits_a_message(notes: Notes) -> None:
    made = fit.text("book", "\N{GREEK SMALL LETTER ALPHA}" * 1_000_001, notes)
    check_message(Text("book", made))
    assert made.endswith("\n\n... (cut: 999,944 of 1,000,001 characters are shown)")
    assert notes == [("text", "'book': 999,944 of 1,000,001 characters are kept; a text has 1,000,000 at most")]


def test_a_long_label_is_cut_with_an_ellipsis(notes: Notes) -> None:
    assert fit.label("title", "x" * 4096, notes) == "x" * 4096
    assert not notes
    assert fit.label("title", "x" * 5000, notes) == "x" * 4095 + "…"
    assert notes == [("title", "1 of 1 are cut to 4,096 characters (the first: of 5,000)")]


@pytest.mark.parametrize(
    ("given", "kept", "told"),
    [
        ((), [], []),
        (None, [], []),
        (["a", "b", "c"], ["a", "b", "c"], []),
        ((1, None, 0.5), ["1", "None", "0.5"], []),
        (np.array(["a", "b", "c"]), ["a", "b", "c"], []),
        (torch.tensor([4, 5, 6]), ["4", "5", "6"], []),
        ((letter for letter in "abc"), ["a", "b", "c"], []),
        (["a"], ["a", "", ""], ["number of captions"]),
        ("one text", ["one text", "", ""], ["number of captions"]),
        (["a"] * 9, ["a"] * 3, ["number of captions"]),
        (["x" * 5000, "b", "y" * 9000], ["x" * 4095 + "…", "b", "y" * 4095 + "…"], ["captions"]),
        ([META, "b", HALF], ["", "b", "\ufffd"], ["captions", "captions"]),
        (META, [], ["captions"]),
        (5, [], ["captions"]),
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],
)
def test_captions_are_as_many_as_the_pictures(given: Any, kept: list[str], told: list[str], notes: Notes) -> None:
    assert fit.captions(given, 3, "pictures", notes) == kept
    assert notes.parts == told


def test_captions_without_an_end_are_cut(notes: Notes) -> None:
    endless = iter(lambda: "x", None)
    assert fit.captions(endless, 2, "clips", notes) == ["x", "x"]
    assert notes == [("number of captions", "more than 2 came for 2 clips; the others are left out")]


@given(
    tag=st.text(st.sampled_from("ab/ "), min_size=1, max_size=limits.TAG_MAX_CHARACTERS).map(
        lambda tag: f"a{tag}"[:512]
    ),
    sizes=st.lists(st.integers(1, 100), max_size=60),
    items_max=st.integers(1, 10),
    size_max_bytes=st.integers(50, 300),
)
def test_records_hold_all_items_in_order(tag: str, sizes: list[int], items_max: int, size_max_bytes: int) -> None:
    parts = fit.record_slices(tag, sizes, items_max, size_max_bytes)
    assert [size for part in parts for size in sizes[part.items]] == sizes
    for part in parts:
        held = sizes[part.items]
        assert 1 <= len(held) <= items_max
        assert sum(held) <= size_max_bytes or len(held) == 1
        check_message(Text(part.tag, ""))
    tags = [part.tag for part in parts]
    assert len(set(tags)) == len(tags)
    assert tags[:1] == [tag] * bool(sizes)
    assert all(made.endswith(f" ({place} of {len(tags)})") for place, made in enumerate(tags[1:], 2))


@given(values=st.dictionaries(st.text(), st.integers(), max_size=30), tags_max=st.integers(1, 8))
def test_values_beyond_a_record_are_cut(values: dict[str, int], tags_max: int) -> None:
    notes = Notes()
    kept = fit.first_values("metrics", values, notes, tags_max)
    assert list(kept.items()) == list(values.items())[:tags_max]
    assert len(notes) == (len(values) > tags_max)


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])),
    side_max=st.integers(1, 20),
    size_max_bytes=st.integers(4, 200),
)
def test_large_pictures_become_means_of_blocks(
    shape: tuple[int, int, int, int], side_max: int, size_max_bytes: int
) -> None:
    notes = Notes()
    pictures = torch.randint(0, 256, shape, dtype=torch.uint8)
    made = fit.pictures("i", pictures, notes, side_max=side_max, size_max_bytes=size_max_bytes)
    assert made.dtype == torch.uint8
    assert max(made.shape[1:3]) <= side_max
    assert made[0].numel() <= size_max_bytes
    if made is pictures:
        assert not notes
        return
    assert len(notes) == 1
    factor = next(f for f in range(1, 50) if -(-shape[1] // f) == made.shape[1] and -(-shape[2] // f) == made.shape[2])
    if (side_max, size_max_bytes) != (0, 0) and factor > 1:
        smaller = [-(-side // (factor - 1)) for side in shape[1:3]]
        assert max(smaller) > side_max or math.prod(smaller) * shape[3] > size_max_bytes, "no smaller factor fits"
    row, column = made.shape[1] - 1, made.shape[2] - 1
    corner = pictures[:, row * factor : (row + 1) * factor, column * factor : (column + 1) * factor].float()
    assert (made[:, -1, -1] - corner.mean((1, 2))).abs().max() <= 0.5 + 1e-3


@pytest.mark.parametrize(("height", "width"), [(1, 9000), (9000, 3)])
def test_a_picture_that_is_too_large_for_a_record_is_reduced(height: int, width: int, notes: Notes) -> None:
    made = fit.pictures("photo", torch.full((1, height, width, 3), 7, dtype=torch.uint8), notes)
    assert made.shape == (1, -(-height // 2), width // 2 + width % 2, 3)
    assert (made == 7).all()
    check_message(Images("photo", pack_array(made.numpy())))
    [(part, what)] = notes
    assert part == "size of pictures"
    assert what.startswith(f"'photo': pictures of {width:,} x {height:,} pixels and 3 channels are reduced to")


def test_pictures_on_a_device_are_reduced_there(notes: Notes) -> None:
    made = fit.pictures("i", torch.empty(2, 4000, 6000, 3, dtype=torch.uint8, device="meta"), notes)
    assert made.is_meta
    assert made.shape == (2, 2000, 3000, 3)


@given(number=st.integers(1, 700), side=st.integers(1, 600), captions=st.booleans())
def test_pictures_of_a_size_are_always_split_alike(number: int, side: int, captions: bool) -> None:
    pictures = torch.empty(number, side, side, 3, dtype=torch.uint8, device="meta")
    parts = fit.picture_slices("i", pictures, captions)
    held = [len(range(number)[part.items]) for part in parts]
    assert sum(held) == number
    assert len(set(held[:-1])) <= 1
    head = 2**13 + captions * 4 * limits.LABEL_MAX_CHARACTERS * held[0]
    assert held[0] <= limits.IMAGES_MAX
    assert held[0] * side * side * 3 + head <= limits.RECORD_SIZE_MAX_BYTES


@given(rows=st.integers(1, 30), columns=st.integers(1, 30), side_max=st.integers(1, 12))
def test_a_large_matrix_becomes_means_of_blocks(rows: int, columns: int, side_max: int) -> None:
    notes = Notes()
    given_values = torch.arange(rows * columns, dtype=torch.float64).reshape(rows, columns)
    made, cells = fit.matrix("m", given_values, notes, side_max)
    height, width = -(-rows // side_max), -(-columns // side_max)
    expected = [
        [float(given_values[y : y + height, x : x + width].mean()) for x in range(0, columns, width)]
        for y in range(0, rows, height)
    ]
    np.testing.assert_allclose(made.numpy(), expected)
    assert max(made.shape) <= side_max
    assert cells == ("" if height == width == 1 else f"means of {height} x {width} blocks")
    assert len(notes) == bool(cells)


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        (torch.ones(5), (1, 5)),
        (torch.tensor(2.0), (1, 1)),
        (np.float32(2), (1, 1)),
        (np.ones(9000), (1, 3000)),
        (torch.ones(5000, 2, dtype=torch.bool), (2500, 2)),
        (torch.ones(2, 5000, dtype=torch.float16), (2, 2500)),
        (torch.ones(5000, 9000, device="meta"), (2500, 3000)),
    ],
)
def test_values_of_any_shape_below_three_are_a_matrix(values: Any, shape: tuple[int, int], notes: Notes) -> None:
    made, _ = fit.matrix("m", values, notes)
    assert tuple(made.shape) == shape
    if not made.is_meta:
        assert made.float().unique().numel() == 1
        check_message(Matrix("m", pack_array(made.float().numpy())))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 2, 2), (1, 1, 1, 1)])
def test_values_that_are_no_matrix_are_refused_with_advice(shape: tuple[int, ...], notes: Notes) -> None:
    with pytest.raises(ValueError, match=r"values of shape .*; expected \[rows, columns\] .* telemetry.images"):
        fit.matrix("m", torch.ones(shape), notes)


def test_a_block_with_a_nan_shows_the_nan(notes: Notes) -> None:
    values = torch.ones(2, 4)
    values[0, 3] = math.nan
    values[1, 0] = math.inf
    made, _ = fit.matrix("m", values, notes, side_max=2)
    np.testing.assert_array_equal(made.numpy(), [[1.0, math.nan], [math.inf, 1.0]])


@pytest.mark.parametrize(
    ("ends", "kept"),
    [
        (None, None),
        ((0, 1), (0.0, 1.0)),
        ([np.float32(-1), torch.tensor(2)], (-1.0, 2.0)),
        (torch.tensor([0.0, 4.0]), (0.0, 4.0)),
    ],
)
def test_a_value_range_is_two_numbers(ends: Any, kept: object, notes: Notes) -> None:
    assert fit.value_range("m", ends, notes) == kept
    assert not notes


@pytest.mark.parametrize(
    "ends",
    [(1, -1), (1, 1), (0, math.nan), (-math.inf, 1), (0, 1, 2), (0,), 5, ("a", "b"), (0, META), META, (None, 1)],
    ids=str,
)
def test_a_value_range_that_is_none_costs_itself_alone(ends: Any, notes: Notes) -> None:
    assert fit.value_range("m", ends, notes) is None
    assert notes.parts == ["value_range"]


def test_a_reduced_matrix_says_so_in_its_title(notes: Notes) -> None:
    assert fit.title("", "tag", "", notes) == ""
    assert fit.title("t", "tag", "means of 2 x 1 blocks", notes) == "t (means of 2 x 1 blocks)"
    assert fit.title("", "tag", "means of 2 x 1 blocks", notes) == "tag (means of 2 x 1 blocks)"
    assert not notes
    long = fit.title("x" * 5000, "tag", "means of 2 x 1 blocks", notes)
    assert len(long) == limits.LABEL_MAX_CHARACTERS
    assert long.endswith("x… (means of 2 x 1 blocks)")
    assert notes.parts == ["title"]


BAD_CLIPS: Final = [
    torch.ones(2, 2, 2),
    torch.ones(9, 50),
    torch.ones(2, 50, dtype=torch.int64),
    None,
    "clip",
    torch.ones(9, 9),
    torch.ones(3, dtype=torch.complex64),
]


@given(
    lengths=st.lists(st.one_of(st.none(), st.tuples(st.integers(1, 8), st.integers(0, 400))), min_size=1, max_size=80),
    captions=st.sampled_from(["none", "all", "few"]),
    data=st.data(),
)
def test_one_bad_clip_costs_itself_and_its_caption(
    lengths: list[tuple[int, int] | None], captions: str, data: st.DataObject
) -> None:
    """Room for 500 bytes a record: long clips are cut, many clips become several records."""
    notes = Notes()
    size_max_bytes = fit._CLIP_HEAD_BYTES + 500
    given_clips = [
        data.draw(st.sampled_from(BAD_CLIPS)) if shape is None else torch.full(shape, place / 100)
        for place, shape in enumerate(lengths)
    ]
    labels = {"none": [], "all": [f"{n}" for n in range(len(lengths))], "few": ["0"]}[captions]
    kept = fit.clips("a", given_clips, labels, notes, size_max_bytes)
    good = [place for place, shape in enumerate(lengths) if shape is not None]
    assert len(kept.sounds) == len(good)
    for place, sound in zip(good, kept.sounds, strict=True):
        channels, frames = lengths[place] or (0, 0)
        assert tuple(sound.shape) == (min(frames, 500 // (2 * channels)), channels)
        assert (sound == round(place / 100 * 32767)).all()
    whole = [*labels, *[""] * (len(lengths) - len(labels))]
    assert kept.captions == ([whole[place] for place in good] if labels else [])
    many, cut = len(good) < len(lengths), any(math.prod(lengths[place] or ()) * 2 > 500 for place in good)
    assert notes.parts.count("clips") >= many + (
        cut and any(len(s) < (lengths[p] or (0, 0))[1] for p, s in zip(good, kept.sounds, strict=True))
    )
    parts = kept.slices("a", size_max_bytes)
    assert [place for part in parts for place in good[part.items]] == good
    for part in parts:
        packed = [pack_array(sound.numpy()) for sound in kept.sounds[part.items]]
        check_message(Audio(part.tag, packed, 8000, kept.captions[part.items]))
        assert sum(len(clip.data) for clip in packed) <= 500 or len(packed) == 1


@pytest.mark.parametrize("values", [torch.ones(50), np.ones(50, np.float32)])
def test_a_vector_is_a_single_clip(values: Any, notes: Notes) -> None:
    [sound] = fit.clips("a", values, ["one"], notes).sounds
    assert sound.shape == (50, 1)
    assert not notes


@pytest.mark.parametrize(
    ("rate", "kept", "told"),
    [(8000, 8000, 0), (8000.0, 8000, 0), (np.int64(1), 1, 0), (torch.tensor(384_000), 384_000, 0), (11025.5, 11026, 1)],
)
def test_a_sample_rate_is_whole(rate: Any, kept: int, told: int, notes: Notes) -> None:
    made = fit.sample_rate(rate, notes)
    assert (made, type(made), len(notes)) == (kept, int, told)


@pytest.mark.parametrize("rate", [0, -1, 384_001, math.nan, math.inf, 10**400, None, "fast", META])
def test_a_sample_rate_that_no_player_takes_is_refused(rate: Any, notes: Notes) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        fit.sample_rate(rate, notes)


TITLES: Final = SHORT | st.integers() | st.sampled_from(["x" * 5000, "x" * 6000])
CHARTS: Final = st.one_of(
    st.builds(Chart, st.sampled_from(["multiline", "margin"]), st.lists(SHORT, max_size=6)),
    st.tuples(st.sampled_from(["Multiline", "MARGIN", "pie", None]), st.lists(SHORT | st.integers(), max_size=6)),
    st.sampled_from(
        [
            None,
            5,
            ["Multiline"],
            ["Multiline", "loss"],
            ["Multiline", None],
            ["Multiline", ["x" * 5000, "y"]],
            ("margin", ["a", "b", "c"]),
        ]
    ),
)


@given(
    categories=st.dictionaries(TITLES, st.dictionaries(TITLES, CHARTS, max_size=6) | st.none(), max_size=6),
    charts_max=st.integers(3, 5),
    parts_max=st.integers(1, 20),
)
def test_a_layout_keeps_the_charts_that_fit(categories: dict[Any, Any], charts_max: int, parts_max: int) -> None:
    notes = Notes()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "LAYOUT_CHARTS_MAX", charts_max)
        patched.setattr(limits, "LAYOUT_PARTS_MAX", parts_max)
        made = fit.layout(categories, notes)
        if made is not None:
            check_message(made)
    charts_given = sum(len(charts) for charts in categories.values() if charts is not None)
    kept = sum(map(len, made.categories.values())) if made else 0
    assert kept <= charts_given
    assert notes or kept == charts_given
    assert made is not None or notes or not charts_given


def test_one_malformed_chart_costs_itself_alone(notes: Notes) -> None:
    good = {"a": ["Multiline", ["^loss/"]], "b": Chart("margin", ["m", "l", "u"]), "one": ["multiline", "loss"]}
    bad = {"c": ["Margin", ["m", "l"]], "d": ["Pie", ["x"]], "e": Chart("bar", []), "f": None}  # type: ignore[arg-type]
    made = fit.layout({"Losses": {**bad, **good}, "Others": {"g": ["Margin", ["x"]]}, "Empty": {}}, notes)
    assert made == Layout(
        {
            "Losses": {
                "a": Chart("multiline", ["^loss/"]),
                "b": Chart("margin", ["m", "l", "u"]),
                "one": Chart("multiline", ["loss"]),
            },
            "Empty": {},
        }
    )
    [(part, what)] = notes
    assert part == "charts"
    assert what.startswith("5 of 8 are not kept (the first: c: a margin chart of 2 tags; expected three")


def test_a_margin_chart_has_the_tags_that_telemetry_shows(notes: Notes) -> None:
    tags = ["mean", "low\n", "x" * 600]
    assert fit.layout({"a": {"b": ["Margin", tags]}}, notes) == Layout(
        {"a": {"b": Chart("margin", list(map(shown_tag, tags)))}}
    )
    assert not notes


def test_a_layout_without_a_good_chart_does_not_replace_the_last(notes: Notes) -> None:
    assert fit.layout({"a": {"b": None}}, notes) is None
    assert fit.layout({}, notes) == Layout({})
    with pytest.raises(TypeError, match=r"a list; expected \{category"):
        fit.layout([], notes)  # type: ignore[arg-type]


NODES: Final = st.builds(
    GraphNode,
    SHORT,
    SHORT,
    st.lists(SHORT, max_size=6),
    st.lists(st.lists(st.integers(-2, 5) | st.just(2**63), max_size=10), max_size=4),
    st.dictionaries(SHORT, SHORT, max_size=4),
)


@given(
    nodes=st.lists(NODES, max_size=12),
    nodes_max=st.integers(1, 8),
    parts_max=st.integers(30, 80),
    links_max=st.integers(1, 5),
    label_max=st.integers(2, 3),
)
def test_a_graph_keeps_the_first_nodes(
    nodes: list[GraphNode], nodes_max: int, parts_max: int, links_max: int, label_max: int
) -> None:
    notes = Notes()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "GRAPH_NODES_MAX", nodes_max)
        patched.setattr(limits, "GRAPH_PARTS_MAX", parts_max)
        patched.setattr(limits, "GRAPH_NODE_LINKS_MAX", links_max)
        patched.setattr(limits, "LABEL_MAX_CHARACTERS", label_max)
        made = fit.graph(Graph(nodes), notes)
        check_message(made)
    assert notes or made == Graph(nodes)
    assert len(made.nodes) <= min(len(nodes), nodes_max)
    for node, source in zip(made.nodes, nodes, strict=False):
        assert node.name[:1] == fit.as_text(source.name)[:1]


def test_links_to_nodes_that_are_left_out_are_dropped(monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    monkeypatch.setattr(limits, "GRAPH_NODES_MAX", 2)
    nodes = [GraphNode("a", "x", ["c", "elsewhere"]), GraphNode("b", "x", ["a"]), GraphNode("c", "x", ["b"])]
    made = fit.graph(Graph(nodes), notes)
    assert [(node.name, node.inputs) for node in made.nodes] == [("a", ["elsewhere"]), ("b", ["a"])]
    [(part, what)] = notes
    assert part == "nodes"
    assert what.startswith("1 of 3 are too many, the first 2 are kept: a graph has at most 2 nodes")


def test_a_large_graph_fits_a_record(notes: Notes) -> None:
    """A node's text may be 16 KB: the first nodes of 64 MiB are kept."""
    text = "\N{MATHEMATICAL BOLD SMALL A}" * limits.LABEL_MAX_CHARACTERS
    nodes = [GraphNode(f"{number}", "x", [], [], {"settings": text}) for number in range(5000)]
    made = fit.graph(Graph(nodes), notes)
    assert 4000 < len(made.nodes) < limits.RECORD_SIZE_MAX_BYTES / len(text.encode())


def test_a_bad_node_costs_itself_alone(notes: Notes) -> None:
    good = GraphNode("a", "b")
    bad: list[Any] = ["node", GraphNode(5, "b"), GraphNode("c", "d", [None])]  # type: ignore[arg-type, list-item]
    assert fit.graph(Graph([bad[0], good, *bad[1:]]), notes) == Graph([good])
    assert len(notes) == 1
    with pytest.raises(ValueError, match="none of 3 nodes can be kept"):
        fit.graph(Graph(bad), notes)
    with pytest.raises(TypeError, match=r"a str; expected a Graph, as trace_graph\(model, inputs\) returns"):
        fit.graph("graph", notes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("walltime", "time_ns"),
    [
        *((0, 0), (0.0, 0), (1.5, 1_500_000_000), (-2.5, -2_500_000_000)),
        *((1_722_222_222.25, 1_722_222_222_250_000_000), (np.float32(2.5), 2_500_000_000)),
        (torch.tensor(3), 3_000_000_000),
    ],
)
def test_a_wall_time_is_nanoseconds(walltime: Any, time_ns: int, notes: Notes) -> None:
    assert fit.wall_time_ns(walltime, notes) == time_ns
    assert fit.wall_time_ns(None, notes) is None
    assert not notes


@pytest.mark.parametrize("walltime", ["now", math.nan, math.inf, 1e10, [], META], ids=repr)
def test_a_wrong_wall_time_is_told_and_is_now(walltime: Any, notes: Notes) -> None:
    assert fit.wall_time_ns(walltime, notes) is None
    assert notes.parts == ["walltime"]
