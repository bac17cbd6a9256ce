"""An event file, cut at every length and damaged at every byte: whole events before the damage are read, never more."""

from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.doctor import event_file
from tensorboard_sidecar.logger_service.doctor.event_file import read_payloads
from tensorboard_sidecar.protocol.frame import pack_frame, pack_head

PAYLOADS = [b"first", b"", b"the third"]
WHOLE = b"".join(map(pack_frame, PAYLOADS))


def read(path: Path, data: bytes) -> tuple[list[bytes], list[str]]:
    path.write_bytes(data)
    items = list(read_payloads(path))
    return [bytes(item) for item in items if not isinstance(item, str)], [i for i in items if isinstance(i, str)]


def test_a_whole_file_is_its_payloads(tmp_path: Path) -> None:
    assert read(tmp_path / "file", WHOLE) == (PAYLOADS, [])
    assert read(tmp_path / "file", b"") == ([], [])


def test_a_file_that_is_cut_has_the_whole_events_before_the_cut(tmp_path: Path) -> None:
    ends = [0, 21, 37, len(WHOLE)]
    for size in range(len(WHOLE)):
        payloads, notes = read(tmp_path / "file", WHOLE[:size])
        assert payloads == PAYLOADS[: sum(end <= size for end in ends) - 1]
        assert len(notes) == (size not in ends)


def test_a_byte_that_is_damaged_costs_its_event_or_what_follows_and_is_said(tmp_path: Path) -> None:
    for place in range(len(WHOLE)):
        data = bytearray(WHOLE)
        data[place] ^= 0x10
        payloads, notes = read(tmp_path / "file", bytes(data))
        assert payloads in (PAYLOADS[:0], PAYLOADS[:1], PAYLOADS[:2], PAYLOADS[1:], [PAYLOADS[0], PAYLOADS[2]])
        (note,) = notes
        assert "bad head checksum" in note or "bad payload checksum" in note


def test_zeros_at_the_end_are_no_event(tmp_path: Path) -> None:
    payloads, notes = read(tmp_path / "file", WHOLE + bytes(4096))
    assert payloads == PAYLOADS
    assert notes == ["the last 4,096 bytes are no event: a write that was cut off"]


def test_a_huge_event_is_passed_over_and_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_file, "EVENT_SIZE_MAX_BYTES", 5)
    payloads, notes = read(tmp_path / "file", WHOLE)
    assert payloads == PAYLOADS[:2]
    assert notes == ["byte 37: an event of 9 bytes; at most 5 are read"]


def test_a_head_that_promises_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    payloads, notes = read(tmp_path / "file", WHOLE + pack_head(2**62) + b"..")
    assert payloads == PAYLOADS
    assert notes == ["the last 14 bytes are no event: a write that was cut off"]
