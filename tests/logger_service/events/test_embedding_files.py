import io
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import _read_tensor_binary_file, _read_tensor_tsv_file

from tensorboard_sidecar.logger_service.events.embedding_files import (
    Entry,
    config_block,
    file_name,
    metadata_file,
    points_file,
    sprite,
    tensor_name,
)

HOSTILE_TAGS = [
    "a/b",
    "../../etc/passwd",
    "a&b",
    "a+b",
    "a b",
    "\N{SNOWMAN}" * 200,
    "x" * 512,
    "~root",
    "a:0",
    'q"\\',
    "-",
]


def read_points(path: str, vectors: np.ndarray) -> Any:
    """Read as the projector's plugin does."""
    try:
        return _read_tensor_tsv_file(path)
    except UnicodeDecodeError:
        return _read_tensor_binary_file(path, vectors.shape)


@pytest.mark.parametrize("tag", HOSTILE_TAGS)
def test_a_file_name_is_one_plain_component(tag: str) -> None:
    name = file_name(tag)
    assert name.isascii()
    assert len(name) < 100
    assert not set(name) & set("/\\ &#+%~")


def test_different_tags_have_different_files_and_titles() -> None:
    assert len({file_name(tag) for tag in HOSTILE_TAGS}) == len(HOSTILE_TAGS)
    assert len({tensor_name(tag, 1, latest=True) for tag in HOSTILE_TAGS}) == len(HOSTILE_TAGS)


def test_a_plain_tag_is_its_own_file_name() -> None:
    assert file_name("joint") == "joint"


def test_the_latest_step_comes_first_in_a_sorted_menu() -> None:
    names = [tensor_name("joint", step, latest=step == 960) for step in (480, 720, 960)]
    assert min(names) == "joint \N{MIDDLE DOT} latest (step 960)"


@pytest.mark.parametrize("tag", HOSTILE_TAGS)
def test_titles_are_without_the_characters_that_break_routes(tag: str) -> None:
    assert not set(tensor_name(tag, 5, latest=True)) & set("&#+%:")


@pytest.mark.parametrize(
    "vectors",
    [
        np.random.default_rng(0).normal(size=(50, 7)),
        np.zeros((3, 4)),
        np.full((2, 2), np.frombuffer(b"1\n2\n", "<f4")[0]),
        np.full((2, 2), np.frombuffer(b"ab\n\xff", "<f4")[0]),
        np.full((2, 2), np.frombuffer(b"\n\n\n\xff", "<f4")[0]),
        np.full((2, 2), np.frombuffer(b"\xff\n41", "<f4")[0]),
        np.array([[np.inf, -np.inf], [1.0, np.pi]]),
    ],
)
def test_the_plugin_reads_the_points_that_were_written(
    vectors: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    vectors = vectors.astype(np.float32)
    suffix, data = points_file(vectors)
    path = tmp_path_factory.mktemp("points") / f"points.{suffix}"
    path.write_bytes(data)
    assert np.array_equal(read_points(str(path), vectors), vectors)


@given(st.binary(min_size=4, max_size=64).map(lambda data: data[: len(data) // 4 * 4]))
def test_the_plugin_reads_any_bits(data: bytes) -> None:
    """Raw bytes that begin with a line of text would end in a ValueError, which the plugin does not catch."""
    vectors = np.frombuffer(data, "<f4").reshape(-1, 1)
    suffix, content = points_file(vectors)
    if suffix == "tsv":
        assert content.decode().count("\n") == len(vectors)
    else:
        with pytest.raises(UnicodeDecodeError):
            content.lstrip(b"\n").split(b"\n")[0].decode()


def test_metadata_has_a_head_only_for_several_columns() -> None:
    assert metadata_file(["caption"], [["a"], ["b"]]) == b"a\nb\n"
    assert metadata_file(["caption", "n"], [["a", "1"], ["b", "2"]]) == b"caption\tn\na\t1\nb\t2\n"


@pytest.mark.parametrize("cell", ["", " ", "\t", "a\tb", "a\nb", "a\r\nb", "\N{NO-BREAK SPACE}", "\N{LINE SEPARATOR}"])
def test_no_cell_shifts_the_lines_after_it(cell: str) -> None:
    lines = metadata_file(["caption"], [[cell], ["last"]]).decode().split("\n")
    assert lines[1:] == ["last", ""]
    assert lines[0].strip()
    assert "\t" not in lines[0]


def test_a_sprite_holds_the_thumbnails_row_by_row() -> None:
    thumbnails = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((1, 2, 3, 3), 10, np.uint8)
    picture, size = sprite(thumbnails)
    assert size == (3, 2)
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)))
    assert pixels.shape == (6, 9, 3)
    assert pixels[::2, ::3, 0].tolist() == [[0, 10, 20], [30, 40, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("number", "height", "width"), [(1, 100, 100), (10, 30, 7), (50, 9, 9), (400, 3, 50), (2500, 4, 4)]
)
def test_a_sprite_stays_within_its_side(number: int, height: int, width: int) -> None:
    picture, (wide, high) = sprite(np.zeros((number, height, width, 3), np.uint8), side_max_pixels=64)
    assert max(picture.width, picture.height) <= 64
    assert min(wide, high) >= 1
    assert picture.width // wide == picture.height // high
    assert (picture.width // wide) ** 2 >= number


def test_a_block_of_the_config_says_what_was_written() -> None:
    entry = Entry('a "b" \\ \N{SNOWMAN}', 7, (12, 5), "projector/p.bytes", "projector/m.tsv", "projector/s.png", (8, 6))
    config = text_format.Parse(config_block(entry, latest=False) + config_block(entry, latest=True), ProjectorConfig())
    first, second = config.embeddings
    assert first.tensor_name == 'a "b" \\ \N{SNOWMAN} \N{MIDDLE DOT} step 7'
    assert second.tensor_name == 'a "b" \\ \N{SNOWMAN} \N{MIDDLE DOT} latest (step 7)'
    assert (list(first.tensor_shape), first.tensor_path, first.metadata_path) == (
        [12, 5],
        "projector/p.bytes",
        "projector/m.tsv",
    )
    assert (first.sprite.image_path, list(first.sprite.single_image_dim)) == ("projector/s.png", [8, 6])


def test_a_block_leaves_out_what_there_is_not() -> None:
    config = text_format.Parse(config_block(Entry("a", 1, (2, 3), "p"), latest=True), ProjectorConfig())
    assert not config.embeddings[0].metadata_path
    assert not config.embeddings[0].HasField("sprite")
