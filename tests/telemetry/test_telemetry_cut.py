"""What is too large for a record is split, reduced or cut, and told; one bad part never costs the good parts."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.machine.slow_device import SlowDevice
from support.records.summaries import summarize
from support.running.spoken import read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import (
    Chart,
    Graph,
    GraphNode,
    HParams,
    Images,
    Layout,
    Matrix,
    Scalars,
    Text,
)
from tensorboard_sidecar.telemetry import pipeline
from tensorboard_sidecar.telemetry.values.fit import Cut

META: Final = torch.zeros((), device="meta")


def kept_by(folder: Path, call: Callable[[Telemetry], object], faults: int = 0) -> list[Any]:
    """Return the messages of one call, all of step 7, which must note as many faults."""
    with Telemetry("run", endpoint=None, record=folder, outbox_dir=folder / "memory") as telemetry:
        call(telemetry)
        assert telemetry.faults.total == faults
        assert telemetry.health()["telemetry/refused"] == 0
    said = read_said(folder)[1:-1]
    assert {step for step, _ in said} <= {7, 0}
    return [message for _, message in said]


def pictures_of(kept: list[Images]) -> tuple[list[str], np.ndarray[Any, Any], list[str]]:
    """Return the tags of records of pictures, all pictures, and all captions."""
    captions = [caption for message in kept for caption in message.captions]
    return [message.tag for message in kept], np.concatenate([message.images.numpy() for message in kept]), captions


def test_three_hundred_pictures_are_two_records(tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (300, 3, 4, 5), dtype=torch.uint8)
    captions = [f"picture {number}" for number in range(300)]
    kept = kept_by(tmp_path, lambda telemetry: telemetry.images(7, "i", pictures, captions))
    tags, whole, told = pictures_of(kept)
    assert tags == ["i", "i (2 of 2)"]
    assert [len(message.captions) for message in kept] == [256, 44]
    np.testing.assert_array_equal(whole, pictures.permute(0, 2, 3, 1))
    assert told == captions


def test_a_batch_of_large_pictures_is_split_by_bytes(tmp_path: Path) -> None:
    pictures = np.arange(100 * 600 * 400 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 600, 400, 3)
    kept = kept_by(tmp_path, lambda telemetry: telemetry.writer.add_images("i", pictures, 7, dataformats="NHWC"))
    tags, whole, _ = pictures_of(kept)
    assert tags == ["i", "i (2 of 2)"]
    np.testing.assert_array_equal(whole, pictures)


def test_pictures_of_a_device_are_split_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SlowDevice(lambda tensor: np.full(tensor.shape, 5, np.uint8))
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)

    def say(telemetry: Telemetry) -> None:
        telemetry.images(7, "i", torch.empty(600, 3, 4, 4, device="meta"), captions=["x"] * 600)
        for copy in device.copies:
            copy.arrive()

    tags, whole, captions = pictures_of(kept_by(tmp_path, say))
    assert tags == ["i", "i (2 of 3)", "i (3 of 3)"]
    assert whole.shape == (600, 4, 4, 3)
    assert captions == ["x"] * 600


def test_pictures_of_a_list_may_be_unequal_and_a_bad_picture_costs_itself(tmp_path: Path) -> None:
    small, large = np.full((2, 3, 3), 7, np.uint8), torch.full((4, 5, 3), 9, dtype=torch.uint8)
    images: list[Any] = [small, small + 1, None, large, np.zeros((2, 2, 9), np.uint8), small]
    captions = [f"{number}" for number in range(6)]
    kept = kept_by(tmp_path, lambda telemetry: telemetry.images(7, "i", images, captions, layout="HWC"), faults=1)
    assert [(message.tag, message.images.shape, message.captions) for message in kept] == [
        ("i", (2, 2, 3, 3), ["0", "1"]),
        ("i (2 of 3)", (1, 4, 5, 3), ["3"]),
        ("i (3 of 3)", (1, 2, 3, 3), ["5"]),
    ]
    assert [set(message.images.data) for message in kept] == [{7, 8}, {9}, {7}]


@pytest.mark.parametrize("images", [[None, None], [np.zeros((2, 2, 9))], ["a"], [], [[0.5, 0.5]] * 2, [[1], None]])
def test_a_list_without_a_good_picture_is_refused(tmp_path: Path, images: Any) -> None:
    with (
        Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry,
        pytest.raises((TypeError, ValueError)),
    ):
        telemetry.images(7, "i", images, layout="HWC")
    assert len(read_said(tmp_path)) == 2


@settings(max_examples=40)
@given(
    number=st.integers(1, 40),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 4])),
    captions=st.lists(st.text(st.characters(), max_size=4) | st.integers() | st.just(META), max_size=50),
)
def test_pictures_of_any_number_and_size_come_back_in_order(
    tmp_path_factory: pytest.TempPathFactory, number: int, sides: tuple[int, int, int], captions: list[Any]
) -> None:
    """With records of at most 5 pictures; every record is decoded and checked as by a logger."""
    pictures = torch.randint(0, 256, (number, *sides), dtype=torch.uint8)
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "IMAGES_MAX", 5)
        with Telemetry("run", endpoint=None, record=folder) as telemetry:
            telemetry.images(7, "i", pictures, captions, layout="NHWC")
        kept: list[Any] = [message for _, message in read_said(folder)[1:-1]]
    tags, whole, told = pictures_of(kept)
    total = -(-number // 5)
    assert tags == ["i", *(f"i ({place} of {total})" for place in range(2, total + 1))]
    np.testing.assert_array_equal(whole, pictures)
    assert len(told) == (number if captions else 0)
    for text, caption in zip(told, captions, strict=False):
        assert text == ("" if caption is META else str(caption)) or "\ufffd" in text or isinstance(caption, str)


def test_a_picture_beyond_every_record_is_reduced_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture = np.full((2, 9000, 3), 200, np.uint8)
    [kept] = kept_by(tmp_path, lambda t: t.writer.add_image("wide", picture, 7, dataformats="HWC"), faults=1)
    assert kept.images.shape == (1, 1, 4500, 3)
    assert set(kept.images.data) == {200}
    assert "telemetry.images: Cut: size of pictures: 'wide': pictures of 9,000 x 2 pixels" in caplog.text


def test_each_kind_of_cut_is_logged_once_and_counted_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = torch.zeros(2, 3, 4, 4)

    def say(telemetry: Telemetry) -> None:
        for _ in range(3):
            telemetry.images(7, "i", pictures, ["a"])
            telemetry.images(7, "i", pictures, ["a", "x" * 5000])

    with caplog.at_level(logging.WARNING):
        kept = kept_by(tmp_path, say, faults=6)
    assert [message.captions for message in kept[:2]] == [["a", ""], ["a", "x" * 4095 + "…"]]
    told = [record.getMessage() for record in caplog.records if "logged once" in record.getMessage()]
    assert len(told) == 2
    assert told[0].startswith("telemetry.images: Cut: number of captions: 1 came for 2 pictures")


@pytest.mark.parametrize(
    ("value", "text", "faults"),
    [
        (5, "5", 0),
        (None, "None", 0),
        (["a", "b"], "['a', 'b']", 0),
        (b"caf\xc3\xa9 \xff", "café \ufffd", 0),
        ("a\ud800", "a\ufffd", 1),
        ({"loss": META}, "{'loss': tensor on meta of shape ()}", 0),
    ],
)
def test_any_value_is_a_text(tmp_path: Path, value: Any, text: str, faults: int) -> None:
    kept = kept_by(tmp_path, lambda telemetry: telemetry.writer.add_text("t", value, 7), faults)
    assert kept == [Text("t/text_summary", text)]


def test_a_text_of_a_million_characters_is_cut_and_marked(tmp_path: Path) -> None:
    [kept] = kept_by(tmp_path, lambda telemetry: telemetry.text(7, "book", "line\n" * 300_000), faults=1)
    assert limits.TEXT_MAX_CHARACTERS - 9 < len(kept.text) <= limits.TEXT_MAX_CHARACTERS
    assert kept.text.endswith("\n\n... (cut: 999,944 of 1,500,000 characters are shown)")


@pytest.mark.parametrize(
    ("values", "keywords", "expected", "faults"),
    [
        (torch.ones(2, 5000), {}, {"shape": (2, 2500), "title": "m (means of 1 x 2 blocks)"}, 1),
        (torch.ones(9000, 2), {"title": "t"}, {"shape": (3000, 2), "title": "t (means of 3 x 1 blocks)"}, 1),
        (torch.ones(3), {}, {"shape": (1, 3), "title": ""}, 0),
        (0.5, {}, {"shape": (1, 1)}, 0),
        (torch.ones(2, 2), {"value_range": (1.0, -1.0)}, {"value_range": None}, 1),
        (torch.ones(2, 2), {"value_range": (0.0, float("inf"))}, {"value_range": None}, 1),
        (torch.ones(2, 2), {"value_range": "red"}, {"value_range": None}, 1),
        (torch.ones(2, 2), {"value_range": (0.0, META)}, {"value_range": None}, 1),
        (torch.ones(2, 2), {"title": ["a"], "row_label": 5}, {"title": "['a']", "row_label": "5"}, 0),
        (torch.ones(2, 2), {"column_label": "x" * 9999}, {"column_label": "x" * 4095 + "…"}, 1),
        (torch.ones(2, 2), {"title": META}, {"title": ""}, 1),
    ],
)
def test_a_matrix_is_kept_with_what_fits(
    tmp_path: Path, values: Any, keywords: dict[str, Any], expected: dict[str, Any], faults: int
) -> None:
    [kept] = kept_by(tmp_path, lambda telemetry: telemetry.matrix(7, "m", values, **keywords), faults)
    assert isinstance(kept, Matrix)
    assert {name: kept.values.shape if name == "shape" else getattr(kept, name) for name in expected} == expected
    assert set(kept.values.numpy().flat) <= {1.0, 0.5}


def test_a_large_matrix_of_a_device_is_reduced_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SlowDevice()
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)

    def say(telemetry: Telemetry) -> None:
        telemetry.matrix(7, "m", torch.empty(8000, 5000, dtype=torch.bfloat16, device="meta"))
        device.copies[0].arrive()

    [kept] = kept_by(tmp_path, say, faults=1)
    assert kept.values.shape == (4000, 2500)
    assert kept.title == "m (means of 2 x 2 blocks)"


def test_a_hundred_clips_are_two_records_and_a_bad_clip_costs_itself(tmp_path: Path) -> None:
    clips: list[Any] = [torch.full((20,), number / 200) for number in range(100)]
    clips[3], clips[50] = None, torch.ones(9, 9)
    captions = [f"{number}" for number in range(100)]
    kept = kept_by(
        tmp_path,
        lambda t: t.audio(7, "a", clips, sample_rate_hz=8000.0, captions=captions),
        faults=1,  # type: ignore[arg-type]
    )
    good = [number for number in range(100) if number not in (3, 50)]
    assert [(message.tag, len(message.clips)) for message in kept] == [("a", 64), ("a (2 of 2)", 34)]
    assert [caption for message in kept for caption in message.captions] == [f"{number}" for number in good]
    firsts = [int(clip.numpy()[0, 0]) for message in kept for clip in message.clips]
    assert firsts == [round(number / 200 * 32767) for number in good]


def test_a_clip_longer_than_a_record_is_cut_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Eleven minutes of mono at 48 kHz fit; twelve do not. A second clip follows in a record of its own."""
    clip = torch.zeros(12 * 60 * 48_000, dtype=torch.int16)
    clip[0] = 7
    kept = kept_by(
        tmp_path, lambda telemetry: telemetry.audio(7, "a", [clip, clip[:9]], sample_rate_hz=48_000), faults=1
    )
    assert [message.tag for message in kept] == ["a", "a (2 of 2)"]
    assert 11 * 60 * 48_000 < kept[0].clips[0].shape[0] < len(clip)
    assert kept[0].clips[0].numpy()[0] == 7
    assert kept[1].clips[0].shape == (9, 1)
    assert "telemetry.audio: Cut: clips: 'a': 1 of 2 are cut to 33,5" in caplog.text


@pytest.mark.parametrize("on_device", [False, True])
def test_more_scalars_than_a_record_holds_are_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    device = SlowDevice()
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)
    number = limits.TAGS_MAX + 1
    values = {f"t/{place}": META if on_device else float(place) for place in range(number)}

    def say(telemetry: Telemetry) -> None:
        telemetry.scalars(7, values)
        for copy in device.copies:
            copy.arrive()

    kept = kept_by(tmp_path, say)
    assert [len(message.values) for message in kept] == [limits.TAGS_MAX, 1]
    merged = {tag: value for message in kept for tag, value in message.values.items()}
    assert list(merged) == list(values)
    if not on_device:
        assert merged == values


def test_more_summaries_than_a_record_holds_are_several(tmp_path: Path) -> None:
    tensors = {f"{group}/{n}": torch.full((3,), float(n)) for group in "abc" for n in range(8000)}
    kept = kept_by(tmp_path, lambda telemetry: telemetry.summaries(7, tensors))
    assert [len(message.summaries) for message in kept] == [16_000, 8000]
    assert [tag for message in kept for tag in message.summaries] == list(tensors)
    assert kept[1].summaries["c/5"] == summarize(torch.full((3,), 5.0))


def test_metrics_beyond_a_record_are_cut(tmp_path: Path) -> None:
    metrics = {f"m/{place}": 0.5 for place in range(limits.TAGS_MAX + 5)}
    [kept] = kept_by(tmp_path, lambda telemetry: telemetry.hparams(7, {"lr": 0.1}, metrics), faults=1)
    assert kept == HParams({"lr": 0.1}, dict(list(metrics.items())[: limits.TAGS_MAX]))


def test_a_layout_keeps_its_good_charts(tmp_path: Path) -> None:
    charts = {"good": ["Multiline", ["^a$"]], "two": ["Margin", ["a", "b"]], "pie": ["Pie", ["a"]], "none": None}
    [kept] = kept_by(tmp_path, lambda telemetry: telemetry.writer.add_custom_scalars({"c": charts}), faults=1)
    assert kept == Layout({"c": {"good": Chart("multiline", ["^a$"])}})


def test_a_layout_of_too_many_charts_keeps_the_first(tmp_path: Path) -> None:
    charts = {f"{number}": Chart("multiline", [f"{number}"]) for number in range(limits.LAYOUT_CHARTS_MAX + 9)}
    [kept] = kept_by(tmp_path, lambda telemetry: telemetry.layout(7, {"c": charts}), faults=1)
    assert list(kept.categories["c"]) == list(charts)[: limits.LAYOUT_CHARTS_MAX]


def test_a_graph_of_too_many_nodes_is_a_smaller_graph(tmp_path: Path) -> None:
    nodes = [GraphNode(f"n{number}", "x", [f"n{number + 1}"]) for number in range(limits.GRAPH_NODES_MAX + 1)]
    [kept] = kept_by(tmp_path, lambda telemetry: telemetry.graph(7, Graph(nodes)), faults=1)
    assert len(kept.nodes) == limits.GRAPH_NODES_MAX
    assert kept.nodes[-2] == nodes[-3]
    assert kept.nodes[-1] == GraphNode(nodes[-2].name, "x")


REFUSED: Final[dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]]] = {
    "three dimensions": ("matrix", ("m", torch.ones(2, 2, 2)), {}, r"shape \(2, 2, 2\); expected \[rows, columns\]"),
    "an empty matrix": ("matrix", ("m", torch.ones(0, 2)), {}, r"expected .* one cell or more"),
    "no picture": ("images", ("i", torch.ones(0, 3, 4, 4)), {}, "expected pixels with 1 to 4 channels"),
    "no clip": ("audio", ("a", []), {"sample_rate_hz": 8000}, "no clips; expected one or more"),
    "no sequence of clips": ("audio", ("a", 5), {"sample_rate_hz": 8000}, "not iterable"),
    "a rate of nothing": ("audio", ("a", [torch.ones(9)]), {"sample_rate_hz": 0}, "sample_rate_hz 0; expected 1 to"),
    "a rate of the radio": ("audio", ("a", [torch.ones(9)]), {"sample_rate_hz": 10**9}, "expected 1 to 384,000"),
    "a text on a device": ("text", ("t", META), {}, "a tensor on meta, which the loop would wait for"),
    "no graph": ("graph", (5,), {}, "a int; expected a Graph"),
    "no layout": ("layout", (["a"],), {}, "a list; expected {category"),
}


@pytest.mark.parametrize(("name", "args", "keywords", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_says_what_was_expected(
    tmp_path: Path, name: str, args: tuple[Any, ...], keywords: dict[str, Any], reason: str
) -> None:
    with (
        Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry,
        pytest.raises((ValueError, TypeError), match=reason),
    ):
        getattr(telemetry, name)(7, *args, **keywords)
    assert len(read_said(tmp_path)) == 2


def test_a_step_before_training_is_kept_and_the_run_ends_at_a_later_one(tmp_path: Path) -> None:
    """Programs use -1 for "before training"; the end of a run is at a step from 0 on."""
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for step in (-1, -(2**53)):
            telemetry.scalars(step, {"a": 1.0})
            telemetry.text(step, "t", "x")
            telemetry.writer.add_scalar("a", 1.0, step)
    assert [step for step, _ in read_said(tmp_path)] == [0, *[-1] * 3, *[-(2**53)] * 3, 0]


@pytest.mark.parametrize("step", [7.0, np.float32(7), np.int64(7), torch.tensor(7)])
def test_a_step_without_a_fraction_is_a_step(tmp_path: Path, step: Any) -> None:
    assert kept_by(tmp_path, lambda telemetry: telemetry.scalars(step, {"a": 1.0})) == [Scalars({"a": 1.0})]


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (-(2**53) - 1, "step -9007199254740993; expected -9,007,199,254,740,992 to 9,007,199,254,740,992"),
        (2**53 + 1, "step 9007199254740993; expected -9,007,199,254,740,992 to"),
        (0.5, "step 0.5; expected a whole number"),
        (float("nan"), "step nan; expected a whole number"),
        (None, "step None; expected a whole number"),
        ("7", "step '7'; expected a whole number"),
        (META, "step is a tensor on meta, which the loop would wait for; give a Python value"),
    ],
)
def test_a_step_that_cannot_be_shown_is_refused_and_says_what_was_expected(
    tmp_path: Path, step: Any, reason: str
) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for call in (telemetry.text, telemetry.matrix):
            with pytest.raises((TypeError, Malformed), match=reason):
                call(step, "t", 5)


CUT: Final[dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "a caption too few": ("images", ("i", torch.ones(2, 3, 4, 4), ["a"]), {}),
    "a wide picture": ("images", ("i", torch.ones(1, 1, 2, 9000)), {}),
    "a long text": ("text", ("t", "x" * 10**6 + "y"), {}),
    "a large matrix": ("matrix", ("m", torch.ones(2, 5000)), {}),
    "a bad clip": ("audio", ("a", [torch.ones(9), None]), {"sample_rate_hz": 8000}),
    "a bad chart": ("layout", ({"c": {"a": Chart("multiline", ["a"]), "b": None}},), {}),
}


@pytest.mark.parametrize(("name", "args", "keywords"), CUT.values(), ids=CUT)
def test_a_cut_raises_when_strict_and_is_kept(
    tmp_path: Path, name: str, args: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry, pytest.raises(Cut):
        getattr(telemetry, name)(7, *args, **keywords)
    assert len(read_said(tmp_path)) == 3
