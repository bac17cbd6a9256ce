import os
from pathlib import Path

import pytest
from support.small_memory import run_in_small_memory

from trainer.telemetry import location
from trainer.telemetry.location import OUTBOX_BYTES_MIN, outbox_capacity_bytes, outbox_root


def test_the_root_is_the_users_own_and_private(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "_SHARED_MEMORY", memory)
    root = outbox_root()
    assert root == memory / f"tensorboard-sidecar-{os.getuid()}"
    assert root.stat().st_mode & 0o777 == 0o700
    assert outbox_root() == root


def test_without_shared_memory_the_folder_of_temporary_files_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_SHARED_MEMORY", tmp_path / "none")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert outbox_root().parent == tmp_path


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_that_others_can_read_is_not_used(outboxes: Path, mode: int) -> None:
    outboxes.chmod(mode)
    with pytest.raises(PermissionError, match="remove it and start again"):
        outbox_root()


def test_a_link_put_there_by_somebody_is_not_followed(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "_SHARED_MEMORY", memory)
    (memory / f"tensorboard-sidecar-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        outbox_root()


def test_a_file_in_the_way_is_an_error(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(location, "_SHARED_MEMORY", memory)
    (memory / f"tensorboard-sidecar-{os.getuid()}").write_text("")
    with pytest.raises(FileExistsError):
        outbox_root()


def test_what_is_wanted_is_given_where_there_is_room(outboxes: Path) -> None:
    assert outbox_capacity_bytes(outboxes, OUTBOX_BYTES_MIN) == OUTBOX_BYTES_MIN


@pytest.mark.parametrize("wanted", [-1, 0, OUTBOX_BYTES_MIN - 1])
def test_an_outbox_that_could_hold_nothing_is_refused(outboxes: Path, wanted: int) -> None:
    with pytest.raises(ValueError, match="expected 1,048,576 or more"):
        outbox_capacity_bytes(outboxes, wanted)


def test_an_outbox_takes_half_of_little_memory_and_says_when_there_is_none(tmp_path: Path) -> None:
    mount_point = tmp_path / "memory"
    mount_point.mkdir()
    program = f"""
from pathlib import Path
from trainer.telemetry.location import outbox_capacity_bytes
folder = Path({str(mount_point)!r})
print(outbox_capacity_bytes(folder))
(folder / "taken").write_bytes(bytes(7 * 2**20))
try:
    outbox_capacity_bytes(folder)
except OSError as error:
    print(error)
"""
    said = run_in_small_memory(program, tmp_path, size="8m", mount_point=mount_point)
    assert said.splitlines()[0] == str(4 * 2**20)
    assert "1,048,576 bytes are free for an outbox, 2,097,152 are needed" in said
    assert "--shm-size" in said
