"""The files of an embedding that arrives in parts: the same as those of a whole embedding, whatever happens between."""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.machine.killed_changes import Killed, kill_after
from support.records.events import folder_bytes
from support.records.parts import in_parts
from support.records.recordings import START_NS, make_embedding
from tensorboard.plugins.projector.projector_plugin import _read_tensor_binary_file, _read_tensor_tsv_file

from tensorboard_sidecar.logger_service.events import embedding_parts, embedding_projector
from tensorboard_sidecar.logger_service.events.embedding_parts import IncompleteEmbedding, PartFiles
from tensorboard_sidecar.logger_service.events.embedding_projector import EmbeddingProjector
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Embedding
from tensorboard_sidecar.protocol.record import Kind, Record

STEP: Final = 7


def record_of(place: int, step: int = STEP, start_ns: int = START_NS) -> Record:
    return Record(Kind.EMBEDDING, 10 + place, step, start_ns + place, b"")


def take(directory: Path, parts: Sequence[Embedding], first: int = 0, step: int = STEP) -> list[Exception]:
    """Write parts like the records of a stream, the first of them as record ``first``; return all errors."""
    errors = []
    for place, part in enumerate(parts, first):
        errors += EmbeddingProjector(directory).write(part, record_of(place, step))
    return errors


def shown(directory: Path) -> dict[str, bytes]:
    """Return the files that TensorBoard reads, without markers."""
    files = {name: data for name, data in folder_bytes(directory).items() if not Path(name).name.startswith(".")}
    return {name: data for name, data in files.items() if "/latest-" not in name}


def hidden(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob(".*"))


@pytest.mark.parametrize("ends", [[], [1], [5, 6], list(range(1, 12))])
def test_parts_become_the_files_of_the_whole(ends: list[int], tmp_path: Path) -> None:
    whole = make_embedding("joint")
    assert take(tmp_path / "whole", [whole]) == []
    *before, last = in_parts(whole, ends)
    assert take(tmp_path / "parts", before) == []
    assert shown(tmp_path / "parts") == {}
    assert take(tmp_path / "parts", [last], len(before)) == []
    assert shown(tmp_path / "parts") == shown(tmp_path / "whole")
    assert hidden(tmp_path / "parts") == [".joint.parts.json"]


def test_parts_without_metadata_and_thumbnails_have_points_alone(tmp_path: Path) -> None:
    whole = Embedding("joint", make_embedding("joint").vectors)
    take(tmp_path / "whole", [whole])
    take(tmp_path / "parts", in_parts(whole, [4]))
    assert shown(tmp_path / "parts") == shown(tmp_path / "whole")


def kill_or_tear_after(changes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow a number of writes, renames and deletions; tear the next write, and fail every later change."""
    left, write = kill_after(changes, monkeypatch), embedding_parts._write_at

    def torn(path: Path, offset: int, data: bytes) -> bool:
        if next(left, None) is None:
            write(path, offset, data[: len(data) // 2])
            raise Killed
        return write(path, offset, data)

    monkeypatch.setattr(embedding_parts, "_write_at", torn)


@pytest.mark.parametrize("numbers", ["random", "zeros", "twos"])
def test_after_a_kill_at_any_moment_the_next_process_completes_the_embedding(numbers: str, tmp_path: Path) -> None:
    """The next process reads the stream again from the record that was being shown, or from an earlier record."""
    whole = make_embedding("joint")
    if numbers != "random":
        fill = np.full((12, 5), 2.0 if numbers == "twos" else 0.0, np.float32)
        whole = Embedding("joint", pack_array(fill), whole.columns, whole.rows, whole.thumbnails)
    parts = in_parts(whole, [5, 9])
    take(tmp_path / "whole", [*parts])
    done, changes = False, 0
    while not done:
        for back in (0, 1, 2):
            directory = tmp_path / f"{changes}-{back}"
            reached = 0
            with pytest.MonkeyPatch.context() as monkeypatch, suppress(Killed):
                kill_or_tear_after(changes, monkeypatch)
                for reached, part in enumerate(parts):
                    take(directory, [part], reached)
                done = True
            again = max(0, reached - back)
            assert take(directory, parts[again:], again) == []
            assert folder_bytes(directory) == folder_bytes(tmp_path / "whole")
        changes += 1
    assert changes > 30


@pytest.mark.parametrize(
    ("lost", "missing"),
    [(0, "rows before row 3 of 12"), (1, "rows before row 6 of 12"), (2, "rows before row 9 of 12")],
)
def test_an_embedding_that_lost_a_part_is_not_shown_and_is_reported_once(
    lost: int, missing: str, tmp_path: Path
) -> None:
    earlier = make_embedding("joint", seed=1)
    take(tmp_path, [earlier], step=STEP - 1)
    before = shown(tmp_path)
    parts = in_parts(make_embedding("joint"), [3, 6, 9])
    errors = take(tmp_path, parts[:lost])
    errors += take(tmp_path, parts[lost + 1 :], lost + 1)
    [error] = errors
    assert isinstance(error, IncompleteEmbedding)
    assert str(error) == f"embedding joint of step-000000000007 is not shown: {missing} are missing"
    assert shown(tmp_path) == before
    assert hidden(tmp_path) == [".joint.parts.json"]


@pytest.mark.parametrize("whole_follows", [True, False])
def test_an_embedding_that_lost_its_last_part_is_deleted_when_the_next_of_its_tag_begins(
    whole_follows: bool, tmp_path: Path
) -> None:
    take(tmp_path, in_parts(make_embedding("joint"), [3, 6])[:2])
    take(tmp_path, in_parts(make_embedding("other"), [3])[:1], 2)
    following = make_embedding("joint", seed=1)
    parts = [following] if whole_follows else in_parts(following, [6])
    [error] = take(tmp_path, parts, 4, STEP + 1)
    assert "rows from row 6 of 12 on are missing" in str(error)
    take(tmp_path / "alone", [following], 4, STEP + 1)
    assert shown(tmp_path)["projector_config.pbtxt"] == shown(tmp_path / "alone")["projector_config.pbtxt"]
    left = {path.name for path in (tmp_path / "projector" / f"step-{STEP:012d}").iterdir()}
    assert {name.split(".")[1] for name in left} == {"other"}


def test_a_new_attempt_deletes_what_is_incomplete(tmp_path: Path) -> None:
    take(tmp_path, in_parts(make_embedding("joint"), [3, 6])[:2])
    [error] = EmbeddingProjector(tmp_path).rewind(100, START_NS + 1000)
    assert "rows from row 6 of 12 on are missing" in str(error)
    assert not list((tmp_path / "projector").iterdir())
    assert EmbeddingProjector(tmp_path).rewind(100, START_NS + 1000) == []


def test_an_attempt_whose_start_is_read_again_reports_nothing(tmp_path: Path) -> None:
    """After a kill before the first event, the start of the run is read again, and then all parts."""
    parts = in_parts(make_embedding("joint"), [3, 6])
    take(tmp_path, parts[:2])
    assert EmbeddingProjector(tmp_path).rewind(0, START_NS - 1) == []
    assert take(tmp_path, parts) == []
    take(tmp_path / "whole", [make_embedding("joint")])
    assert shown(tmp_path)["projector_config.pbtxt"] == shown(tmp_path / "whole")["projector_config.pbtxt"]


@pytest.mark.parametrize(
    "other", [{"row_count": 13}, {"columns": ["caption", "other"]}, {"dimensions": 4}, {"size": 2}]
)
def test_a_part_of_another_kind_is_no_part(other: dict[str, object], tmp_path: Path) -> None:
    first, last = in_parts(make_embedding("joint"), [6])
    thumbnails, vectors = last.thumbnails, last.vectors
    if "size" in other:
        thumbnails = pack_array(np.zeros((6, 2, 2, 3), np.uint8))
    if "dimensions" in other:
        vectors = pack_array(np.zeros((6, 4), np.float32))
    columns, row_count = other.get("columns", last.columns), other.get("row_count", 12)
    strange = Embedding("joint", vectors, columns, last.rows, thumbnails, 6, row_count)  # type: ignore[arg-type]
    assert len(take(tmp_path, [first, strange])) == 1
    assert shown(tmp_path) == {}


def test_the_same_step_again_replaces_the_embedding(tmp_path: Path) -> None:
    take(tmp_path / "parts", in_parts(make_embedding("joint"), [6]))
    take(tmp_path / "parts", in_parts(make_embedding("joint", seed=1), [2, 3]), 2)
    take(tmp_path / "whole", [make_embedding("joint", seed=1)])
    assert shown(tmp_path / "parts") == shown(tmp_path / "whole")


@pytest.mark.parametrize("name", [".joint.points", ".joint.metadata", ".joint.thumbnails"])
def test_rows_that_a_power_loss_took_are_missed(name: str, tmp_path: Path) -> None:
    first, last = in_parts(make_embedding("joint"), [6])
    take(tmp_path, [first])
    path = tmp_path / "projector" / f"step-{STEP:012d}" / name
    path.write_bytes(path.read_bytes()[:-1])
    [error] = take(tmp_path, [last], 1)
    assert "rows before row 6 of 12 are missing" in str(error)


def test_a_state_that_a_power_loss_emptied_is_none(tmp_path: Path) -> None:
    first, last = in_parts(make_embedding("joint"), [6])
    take(tmp_path, [first])
    (tmp_path / "projector" / f"step-{STEP:012d}" / ".joint.parts.json").write_bytes(b"")
    assert len(take(tmp_path, [last], 1)) == 1
    assert take(tmp_path, [first, last], 2) == []


def test_old_steps_take_their_hidden_files_along(tmp_path: Path) -> None:
    for step in range(10):
        take(tmp_path, in_parts(make_embedding("joint", seed=step), [6]), 2 * step, step)
    folders = sorted(path.name for path in (tmp_path / "projector").glob("step-*"))
    assert folders == [f"step-{step:012d}" for step in (6, 7, 8, 9)]


NUMBERS: Final = st.sampled_from(
    [0.0, -0.0, 2.0, 0.1, math.nan, math.inf, 1e-42, *np.frombuffer(b"ab\n\xff\n\n12", "<f4")]
)


@given(st.lists(NUMBERS, min_size=2, max_size=40), st.sampled_from([1, 2]))
def test_the_plugin_reads_the_points_that_were_collected(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], dimensions: int
) -> None:
    vectors = np.array(numbers[: len(numbers) // dimensions * dimensions], "<f4").reshape(-1, dimensions)
    files = PartFiles(tmp_path_factory.mktemp("points"), "joint")
    files.points.write_bytes(vectors.tobytes())
    if files.settle_points(dimensions) == "tsv":
        read = _read_tensor_tsv_file(str(files.points_as_text))
    else:
        with pytest.raises(UnicodeDecodeError):
            _read_tensor_tsv_file(str(files.points))
        read = _read_tensor_binary_file(str(files.points), vectors.shape)
    np.testing.assert_array_equal(read, vectors)


def test_zeros_stay_raw(tmp_path: Path) -> None:
    files = PartFiles(tmp_path, "joint")
    files.points.write_bytes(bytes(4 * 1000))
    assert files.settle_points(10) == "bytes"
    assert np.fromfile(files.points, "<f4").tolist() == [0.0] * 1000


@pytest.mark.parametrize("first", [b"", b"\n\n\n\n", b"ab\xc3\xa4"])
def test_a_first_line_longer_than_a_chunk_is_read_to_its_end(
    first: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_parts, "_CHUNK_SIZE_BYTES", 3)
    for rest, line in (b"abc\xc3\xa9de\n\xff\xff\xff\xff", True), (b"abcdef\xff\n", False), (b"abcdefg\xc3", False):
        path = tmp_path / "points"
        path.write_bytes(first + rest)
        start = len(first) - len(first.lstrip(b"\n"))
        with path.open("rb") as points:
            found = embedding_parts.first_line(points)
        assert found == ((start, (first + rest).index(b"\n", start)) if line else None)


def test_a_complete_embedding_whose_sprite_fails_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("no picture")

    with monkeypatch.context() as patch:
        patch.setattr(embedding_projector, "sprite", fail)
        with pytest.raises(ZeroDivisionError):
            take(tmp_path, in_parts(make_embedding("joint"), [6]))
    assert shown(tmp_path) == {}
    assert take(tmp_path, in_parts(make_embedding("joint", seed=1), [6]), 2, STEP + 1) == []
    assert len(shown(tmp_path)) == 5
