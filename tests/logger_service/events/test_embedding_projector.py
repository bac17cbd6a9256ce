import io
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.machine.killed_changes import Killed, kill_after
from support.records.events import folder_bytes, load_events
from support.records.recordings import START_NS, make_embedding
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from tensorboard.plugins.projector.projector_plugin import _read_tensor_binary_file, _read_tensor_tsv_file

from tensorboard_sidecar.logger_service.events import embedding_projector
from tensorboard_sidecar.logger_service.events.embedding_projector import (
    EmbeddingProjector,
    Entry,
    config_block,
    file_name,
    metadata_file,
    points_file,
    sprite,
    tensor_name,
)
from tensorboard_sidecar.protocol.record import Kind, Record

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


def write(directory: Path, *steps: int, tag: str = "joint") -> None:
    for step in steps:
        record = Record(Kind.EMBEDDING, step + 1, step, START_NS + step * 10**9, b"")
        EmbeddingProjector(directory).write(make_embedding(tag, seed=step), record)


def config(directory: Path) -> ProjectorConfig:
    return text_format.Parse((directory / "projector_config.pbtxt").read_text(), ProjectorConfig())


def names(directory: Path) -> list[str]:
    return [embedding.tensor_name for embedding in config(directory).embeddings]


def markers(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "projector").glob("latest-*"))


def test_everything_the_config_names_is_there(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    for embedding in config(tmp_path).embeddings:
        assert (tmp_path / embedding.tensor_path).stat().st_size == 4 * 12 * 5
        assert len((tmp_path / embedding.metadata_path).read_text().splitlines()) == 13
        assert (tmp_path / embedding.sprite.image_path).is_file()


def test_an_embedding_of_points_alone_has_points_alone(tmp_path: Path) -> None:
    bare = make_embedding("joint")
    bare = type(bare)(bare.tag, bare.vectors)
    EmbeddingProjector(tmp_path).write(bare, Record(Kind.EMBEDDING, 1, 0, START_NS, b""))
    (embedding,) = config(tmp_path).embeddings
    assert not embedding.metadata_path
    assert not embedding.sprite.image_path


def test_the_last_three_steps_of_each_tag_are_shown_newest_first(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4, 5)
    write(tmp_path, 2, tag="text")
    steps = ["latest (step 5)", "step 4", "step 3"]
    shown = [f"joint \N{MIDDLE DOT} {step}" for step in steps]
    assert names(tmp_path) == [*shown, "text \N{MIDDLE DOT} latest (step 2)"]


def test_one_step_more_is_kept_and_older_ones_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, *range(10))
    folders = sorted(path.name for path in (tmp_path / "projector").glob("step-*"))
    assert folders == [f"step-{step:012d}" for step in (6, 7, 8, 9)]


def test_a_folder_stays_while_another_tag_lies_in_it(tmp_path: Path) -> None:
    write(tmp_path, 0, tag="rare")
    write(tmp_path, *range(10))
    assert {path.name.split(".")[0] for path in (tmp_path / "projector" / "step-000000000000").iterdir()} == {"rare"}
    assert "rare \N{MIDDLE DOT} latest (step 0)" in names(tmp_path)


def test_the_order_of_writing_decides_nothing_but_the_marker(tmp_path: Path) -> None:
    write(tmp_path / "one", 1, 2, 3)
    write(tmp_path / "other", 3, 1, 2, 3)
    assert folder_bytes(tmp_path / "one") == folder_bytes(tmp_path / "other")


def test_every_update_changes_the_set_of_runs_by_one(tmp_path: Path) -> None:
    """That is when TensorBoard reads the config again."""
    seen = set()
    for step in (1, 2):
        for tag in ("text", "joint"):
            write(tmp_path, step, tag=tag)
            (marker,) = markers(tmp_path)
            assert marker == f"latest-step-{step}-{tag}"
            seen.add(marker)
    assert len(seen) == 4


def test_a_marker_is_a_run_that_says_nothing(tmp_path: Path) -> None:
    write(tmp_path, 7)
    (path,) = (tmp_path / "projector" / "latest-step-7-joint").iterdir()
    assert path.name == f"events.out.tfevents.{START_NS // 10**9 + 7}.projector"
    (event,) = load_events(path)
    assert event.file_version


def test_a_run_that_is_named_like_a_marker_keeps_its_files(tmp_path: Path) -> None:
    strange = tmp_path / "projector" / "latest-step-1-joint" / "events.out.tfevents.1700000000.0000.00010203.0000"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"precious")
    write(tmp_path, 1, 2)
    assert strange.read_bytes() == b"precious"


def test_a_rewind_forgets_the_steps_from_there_on(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3)
    EmbeddingProjector(tmp_path).rewind(3, START_NS)
    assert names(tmp_path) == ["joint \N{MIDDLE DOT} latest (step 2)", "joint \N{MIDDLE DOT} step 1"]
    assert not (tmp_path / "projector" / "step-000000000003").exists()


def test_a_rewind_changes_the_set_of_runs_too(tmp_path: Path) -> None:
    """An open TensorBoard would keep the config that names files which are no more."""
    write(tmp_path, 1, 2, 3, 2)
    assert markers(tmp_path) == ["latest-step-2-joint"]
    EmbeddingProjector(tmp_path).rewind(3, START_NS)
    assert markers(tmp_path) == ["latest-before-step-3"]
    EmbeddingProjector(tmp_path).rewind(3, START_NS)
    assert markers(tmp_path) == ["latest-before-step-3"]
    write(tmp_path, 3)
    assert markers(tmp_path) == ["latest-step-3-joint"]


def test_a_rewind_to_before_everything_leaves_no_config_and_no_marker(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    EmbeddingProjector(tmp_path).rewind(0, START_NS)
    assert folder_bytes(tmp_path) == {}


def test_a_rewind_of_a_new_run_makes_nothing(tmp_path: Path) -> None:
    EmbeddingProjector(tmp_path / "demo").rewind(0, START_NS)
    assert not list(tmp_path.iterdir())


def test_hostile_tags_stay_inside(tmp_path: Path) -> None:
    for number, tag in enumerate(["../../x", "/etc/passwd", "a\\b", "..", "x" * 512, "\N{SNOWMAN}" * 300]):
        write(tmp_path / "log" / "run", number, tag=tag)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert sorted(path.name for path in (tmp_path / "log" / "run").iterdir()) == ["projector", "projector_config.pbtxt"]
    assert len(names(tmp_path / "log" / "run")) == 6


@pytest.mark.parametrize("linked", ["projector", "projector/step-000000000001"])
def test_a_link_out_of_the_run_is_not_followed(tmp_path: Path, linked: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / "run" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(PermissionError):
        write(tmp_path / "run", 1)
    assert not list(outside.iterdir())


def test_an_entry_that_a_power_loss_emptied_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    (tmp_path / "projector" / "step-000000000001" / "joint.entry.json").write_bytes(b"")
    write(tmp_path, 3)
    assert names(tmp_path) == ["joint \N{MIDDLE DOT} latest (step 3)", "joint \N{MIDDLE DOT} step 2"]


@pytest.mark.parametrize(
    "update",
    [lambda directory: write(directory, 5), lambda directory: EmbeddingProjector(directory).rewind(2, START_NS)],
    ids=["write", "rewind"],
)
def test_after_a_kill_at_any_moment_the_config_holds_and_a_repeat_completes_it(
    tmp_path: Path, update: Callable[[Path], None]
) -> None:
    write(tmp_path / "whole", *range(5))
    update(tmp_path / "whole")
    done, changes = False, 0
    while not done:
        directory = tmp_path / str(changes)
        write(directory, *range(5))
        with pytest.MonkeyPatch.context() as monkeypatch, suppress(Killed):
            kill_after(changes, monkeypatch)
            update(directory)
            done = True
        for embedding in config(directory).embeddings:
            assert (directory / embedding.tensor_path).is_file()
        update(directory)
        assert folder_bytes(directory) == folder_bytes(tmp_path / "whole")
        changes += 1
    assert changes > 10


def test_points_that_read_as_text_go_as_text(tmp_path: Path) -> None:
    zeros = make_embedding("joint")
    zeros = type(zeros)("joint", type(zeros.vectors)("float32", (12, 5), bytes(4 * 60)))
    EmbeddingProjector(tmp_path).write(zeros, Record(Kind.EMBEDDING, 1, 0, START_NS, b""))
    (embedding,) = config(tmp_path).embeddings
    assert embedding.tensor_path.endswith(".tsv")
    assert np.loadtxt(tmp_path / embedding.tensor_path).tolist() == np.zeros((12, 5)).tolist()


def test_files_are_readable_by_others_and_whole(tmp_path: Path) -> None:
    write(tmp_path, 1)
    assert all(os.access(path, os.R_OK) for path in tmp_path.rglob("*"))
    assert not list(tmp_path.rglob("*.new"))
    assert embedding_projector.STEPS_SHOWN == 3


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
