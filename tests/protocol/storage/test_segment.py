"""Segments: names, heads, and other files in the folder."""

import os
from pathlib import Path

import pytest

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import SegmentHead
from tensorboard_sidecar.protocol.record import Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.segment import (
    SEGMENT_HEAD_MAX_BYTES,
    SegmentFile,
    list_segments,
    pack_segment_head,
    read_segment_head,
    read_stream,
    segment_path,
)
from tensorboard_sidecar.protocol.stream import Stream

STREAM = Stream("team/demo", 1, 2, bytes(range(16)))
HEAD = pack_segment_head(STREAM, 41, 1_700_000_000_000_000_000)


def test_names_sort_as_their_numbers(tmp_path: Path) -> None:
    numbers = [1, 9, 10, 99, 10**9, 2**63]
    paths = [segment_path(tmp_path, number) for number in numbers]
    assert paths[0].name == "00000000000000000001.segment"
    assert paths == sorted(paths)
    for path in reversed(paths):
        path.touch()
    assert list_segments(tmp_path) == [SegmentFile(n, p) for n, p in zip(numbers, paths, strict=True)]


def test_other_files_in_the_folder_are_skipped(tmp_path: Path) -> None:
    """Files half made, other programs' files, folders, links and pipes: a reader opens none of them."""
    whole = segment_path(tmp_path, 1)
    whole.write_bytes(HEAD)
    for name in (
        "owner.lock",
        "00000000000000000002.new",
        "2.segment",
        f"{chr(0x660) * 20}.segment",
        ".segment",
        "a.segment",
    ):
        (tmp_path / name).write_bytes(b"rubbish")
    (tmp_path / "000000000000000000021.segment").touch()
    segment_path(tmp_path, 3).mkdir()
    segment_path(tmp_path, 4).symlink_to(whole)
    os.mkfifo(segment_path(tmp_path, 5))
    assert list_segments(tmp_path) == [SegmentFile(1, whole)]


def test_a_head_tells_whose_records_follow(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 41)
    path.write_bytes(HEAD + b"whatever follows")
    assert read_segment_head(path) == SegmentHead(STREAM.id, "team/demo", 1, 2, 41)


def test_a_damaged_head_has_a_copy(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 41)
    for at in range(len(HEAD)):
        damaged = bytearray(HEAD)
        damaged[at] ^= 0x10
        path.write_bytes(damaged + HEAD + b"whatever follows")
        assert read_segment_head(path) == SegmentHead(STREAM.id, "team/demo", 1, 2, 41)


def test_the_longest_head_is_found() -> None:
    longest = Stream("/".join(["x" * 31] * 32), 2**31 - 1, 2**31 - 1, bytes(16))
    assert len(pack_segment_head(longest, 2**63 - 1, 2**63 - 1)) < SEGMENT_HEAD_MAX_BYTES


def test_a_file_that_begins_with_no_head_is_malformed(tmp_path: Path) -> None:
    path = segment_path(tmp_path, 1)
    scalars = pack_frame(pack_record(Record(Kind.SCALARS, 1, 0, 0, b"\x81\xa6values\x80")))
    wrong = pack_frame(pack_record(Record(Kind.SEGMENT, 0, 0, 0, b"\x80", 0)))
    for data in (b"", b"rubbish", bytes(100), scalars, wrong, *(HEAD[:size] for size in range(len(HEAD)))):
        path.write_bytes(data)
        with pytest.raises(Malformed, match=f"{path} begins with no"):
            read_segment_head(path)


def test_the_first_valid_head_names_the_stream(tmp_path: Path) -> None:
    """A flipped bit in a head must not make a recording unreadable."""
    for number in (1, 2, 3):
        segment_path(tmp_path, number).write_bytes(HEAD if number == 2 else b"rubbish")
    assert read_stream(list_segments(tmp_path)) == STREAM
    segment_path(tmp_path, 2).unlink()
    with pytest.raises(Malformed, match=r"0003.segment begins with no"):
        read_stream(list_segments(tmp_path))
