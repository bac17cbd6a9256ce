"""What is kept of an embedding, and that its parts hold all of it."""

import math
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.limits import (
    EMBEDDING_COLUMNS_MAX,
    EMBEDDING_ROWS_MAX,
    EMBEDDING_ROWS_TOTAL_MAX,
    LABEL_MAX_CHARACTERS,
    RECORD_SIZE_MAX_BYTES,
)
from tensorboard_sidecar.protocol.messages import Embedding
from tensorboard_sidecar.protocol.record import HEADER_SIZE_BYTES
from tensorboard_sidecar.telemetry.values.embedding_parts import (
    PART_SIZE_MAX_BYTES,
    Points,
    by_column,
    gather_points,
    plain_label,
    split_points,
)
from tensorboard_sidecar.telemetry.values.fit import Cut

TWO: Final = torch.ones(2, 3)


def gathered(vectors: Any, metadata: Any = None, images: Any = None) -> tuple[Points, list[Exception]]:
    noted: list[Exception] = []
    return gather_points(vectors, metadata, images, noted.append), noted


def messages(points: Points, **limits: int) -> list[Embedding]:
    """Return the messages as the sender thread builds them; each must be valid for a logger."""
    made = [build("e", [tensor.numpy() for tensor in tensors]) for tensors, build in split_points(points, **limits)]
    for message in made:
        check_message(message)
    return made


def joined(parts: list[Embedding]) -> Points:
    """Return the points of all parts, which must follow each other."""
    row_count, first_row = parts[0].row_count, 0
    assert row_count or len(parts) == 1
    for part in parts:
        assert (part.first_row, part.row_count, part.columns) == (first_row, row_count, parts[0].columns)
        first_row += part.vectors.shape[0]
    assert row_count in (0, first_row)
    vectors = np.concatenate([part.vectors.numpy() for part in parts])
    pictures = [part.thumbnails.numpy() for part in parts if part.thumbnails is not None]
    thumbnails = torch.from_numpy(np.concatenate(pictures)) if pictures else None
    return Points(torch.from_numpy(vectors), parts[0].columns, [row for part in parts for row in part.rows], thumbnails)


def assert_same(points: Points, others: Points) -> None:
    torch.testing.assert_close(points.vectors, others.vectors, rtol=0, atol=0, equal_nan=True)
    assert (points.columns, points.rows) == (others.columns, others.rows)
    assert (points.thumbnails is None) == (others.thumbnails is None)
    if points.thumbnails is not None and others.thumbnails is not None:
        assert torch.equal(points.thumbnails, others.thumbnails)


@st.composite
def points(draw: st.DrawFn) -> Points:
    rows, dimensions = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    columns = draw(st.lists(st.text(max_size=5), max_size=3))
    cell = st.text(max_size=300).filter(lambda text: text.isascii() or text.isprintable())
    row = st.lists(cell, min_size=len(columns), max_size=len(columns))
    metadata = draw(st.lists(row, min_size=rows, max_size=rows)) if columns else []
    thumbnails = torch.arange(rows * 12, dtype=torch.uint8).reshape(rows, 2, 2, 3) if draw(st.booleans()) else None
    vectors = torch.arange(rows * dimensions, dtype=torch.float32).reshape(rows, dimensions)
    return Points(vectors, columns, metadata, thumbnails)


@given(points(), st.integers(1, 50), st.integers(8_200, 12_000), st.integers(8_200, 12_000))
def test_the_parts_are_the_embedding(points: Points, rows_max: int, record_size: int, part_size: int) -> None:
    parts = messages(
        points, rows_max=rows_max, record_size_max_bytes=record_size, part_size_max_bytes=min(record_size, part_size)
    )
    assert_same(joined(parts), points)
    for part in parts:
        assert part.vectors.shape[0] <= rows_max
        size_bytes = len(encode_body(part)) + HEADER_SIZE_BYTES
        if part.vectors.shape[0] > 1:
            assert size_bytes <= (min(record_size, part_size) if part.row_count else record_size)


@pytest.mark.parametrize(
    ("rows", "dimensions", "parts"), [(10_000, 768, 1), (30_522, 768, 23), (120_000, 16, 2), (100_000, 16, 1)]
)
def test_a_record_holds_what_it_always_held_and_parts_hold_the_rest(rows: int, dimensions: int, parts: int) -> None:
    made = messages(Points(torch.zeros(rows, dimensions), [], [], None))
    assert len(made) == parts
    assert sum(part.vectors.shape[0] for part in made) == rows
    size_max_bytes = RECORD_SIZE_MAX_BYTES if parts == 1 else PART_SIZE_MAX_BYTES
    assert max(len(encode_body(part)) for part in made) <= size_max_bytes


def test_wide_cells_make_many_parts() -> None:
    rows = [["\N{SNOWMAN}" * LABEL_MAX_CHARACTERS] * EMBEDDING_COLUMNS_MAX for _ in range(200)]
    made = messages(Points(torch.zeros(200, 2), ["c"] * EMBEDDING_COLUMNS_MAX, rows, None))
    assert len(made) > 10
    assert max(len(encode_body(part)) for part in made) <= PART_SIZE_MAX_BYTES
    assert joined(made).rows == rows


def test_tensors_on_a_device_are_cut_on_the_device() -> None:
    vectors = torch.empty(120_000, 16, device="meta")
    given, noted = gathered(vectors, None, torch.empty(120_000, 3, 4, 4, device="meta"))
    assert not noted
    parts = list(split_points(given))
    assert len(parts) > 1
    assert {tensor.device.type for part in parts for tensor in part.tensors} == {"meta"}


@pytest.mark.parametrize(
    ("vectors", "shape", "reason"),
    [
        (torch.ones(5), (5, 1), "are kept as [5, 1]"),
        (torch.ones(2, 3, 4), (2, 12), "are kept as [2, 12]"),
        (torch.ones(2, EMBEDDING_ROWS_MAX + 1), (2, EMBEDDING_ROWS_MAX), "the first 100,000 dimensions are kept"),
        (torch.ones(EMBEDDING_ROWS_TOTAL_MAX + 1), (EMBEDDING_ROWS_TOTAL_MAX, 1), "the first 1,000,000 points are"),
    ],
)
def test_points_of_another_shape_are_kept_and_noted(vectors: Tensor, shape: tuple[int, int], reason: str) -> None:
    given, [noted] = gathered(vectors)
    assert given.vectors.shape == shape
    assert isinstance(noted, Cut)
    assert noted.part == "points"
    assert reason in str(noted)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float64, torch.bfloat16])
def test_numbers_of_any_dtype_become_floats(dtype: torch.dtype) -> None:
    given, noted = gathered(TWO.to(dtype))
    assert given.vectors.dtype == torch.float32
    assert torch.equal(given.vectors, TWO)
    assert not noted


def test_numbers_that_are_none_are_kept_as_they_are() -> None:
    given, noted = gathered(torch.tensor([[math.nan, math.inf], [-math.inf, 1.0]]))
    assert torch.isnan(given.vectors[0, 0])
    assert given.vectors.flatten()[1:].tolist() == [math.inf, -math.inf, 1.0]
    assert not noted


@pytest.mark.parametrize("vectors", [torch.ones(()), torch.ones(0, 3), torch.ones(3, 0), None, "points", TWO * 1j])
def test_without_points_there_is_no_embedding(vectors: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        gathered(vectors)


@pytest.mark.parametrize(
    ("metadata", "columns", "rows", "reason"),
    [
        ({"a": ["x"]}, ["a"], [["x"], ["-"]], "1 cells for 2 points are filled up with '-'"),
        ({"a": ["x", "y", "z"]}, ["a"], [["x"], ["y"]], "3 cells for 2 points are cut"),
        ({"a": ["x", "y"], "b": ["z"]}, ["a", "b"], [["x", "z"], ["y", "-"]], "filled up"),
        ({"a": ["x", "y"], "b": 5}, ["a"], [["x"], ["y"]], "column 'b' is left out"),
        ({"a": ["x", "y"], "b": torch.zeros(2, device="meta")}, ["a"], [["x"], ["y"]], "column 'b' is left out"),
        ({"a": "xy"}, [], [], "column 'a' is left out: a str; expected a cell for each point"),
        ({"a": ["x", "y\ud800"]}, ["a"], [["x"], ["y?"]], "1 texts"),
        (5, [], [], "column 'label' is left out"),
    ],
)
def test_metadata_costs_no_point(metadata: Any, columns: list[str], rows: list[list[str]], reason: str) -> None:
    given, [noted] = gathered(TWO, metadata)
    assert (given.columns, given.rows) == (columns, rows)
    assert torch.equal(given.vectors, TWO)
    assert isinstance(noted, Cut)
    assert noted.part == "metadata"
    assert reason in str(noted)


def test_labels_without_a_name_and_names_that_are_no_text_are_taken() -> None:
    for metadata, name in (["x", 1], "label"), ({5: ["x", 1]}, "5"):
        given, noted = gathered(TWO, metadata)
        assert (given.columns, given.rows, noted) == ([name], [["x"], ["1"]], [])


def test_a_long_cell_is_cut_and_the_others_stay() -> None:
    given, [noted] = gathered(TWO, {"a": ["x" * 10_000, "y"]})
    assert given.rows == [["x" * (LABEL_MAX_CHARACTERS - 1) + "\N{HORIZONTAL ELLIPSIS}"], ["y"]]
    assert "1 texts are longer than 4,096 characters" in str(noted)
    assert plain_label("x" * LABEL_MAX_CHARACTERS) == "x" * LABEL_MAX_CHARACTERS


def test_the_first_columns_are_kept() -> None:
    given, [noted] = gathered(TWO, {f"c{number}": ["x", "y"] for number in range(40)})
    assert given.columns == [f"c{number}" for number in range(32)]
    assert "of 40 columns the first 32 are kept" in str(noted)


@pytest.mark.parametrize(
    "images", [torch.ones(3, 3, 4, 4), torch.ones(2), torch.ones(2, 3, 0, 4), 5, torch.ones(2, 3, 4, 4) * 1j]
)
def test_thumbnails_cost_no_point(images: Any) -> None:
    given, [noted] = gathered(TWO, {"a": ["x", "y"]}, images)
    assert given.thumbnails is None
    assert given.rows == [["x"], ["y"]]
    assert isinstance(noted, Cut)
    assert noted.part == "thumbnails"


def test_many_thumbnails_are_small_enough_for_one_sheet() -> None:
    images = torch.arange(20_000, dtype=torch.int32).remainder(256).to(torch.uint8)
    given, noted = gathered(torch.ones(20_000, 1), None, images[:, None, None, None].expand(-1, 1, 64, 32))
    assert given.thumbnails is not None
    assert given.thumbnails.shape == (20_000, 57, 28, 3)
    assert torch.equal(given.thumbnails[:, 5, 5, 1], images)
    assert not noted


def test_rows_of_metadata_become_columns() -> None:
    columns, change = by_column([("a", 1), ["b", 2]], ("x", "y"))
    assert (columns, change) == ({"x": ["a", "b"], "y": [1, 2]}, None)


def test_rows_of_another_length_are_filled_up_and_their_further_cells_have_columns() -> None:
    columns, change = by_column([("a",), ("b", 2, 3), "c"], ["x", "x"])
    assert columns == {"x": ["a", "b", "c"], "x (2)": ["-", 2, "-"], "column 3": ["-", 3, "-"]}
    assert isinstance(change, Cut)
    assert change.part == "metadata"
    assert "3 rows" in str(change)
