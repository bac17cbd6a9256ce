import os
from pathlib import Path

import pytest
from support.machine.small_memory import run_in_small_memory

from tensorboard_sidecar.protocol.outbox import outbox_files
from tensorboard_sidecar.protocol.outbox.outbox_files import (
    OUTBOX_BYTES_MIN,
    outbox_capacity_bytes,
    outbox_root,
    spill_root,
)


def test_the_root_is_the_users_own_and_private(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_files, "_SHARED_MEMORY", memory)
    root = outbox_root()
    assert root == memory / f"tensorboard-sidecar-{os.getuid()}"
    assert root.stat().st_mode & 0o777 == 0o700
    assert outbox_root() == root


def test_without_shared_memory_the_folder_of_temporary_files_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_files, "_SHARED_MEMORY", tmp_path / "none")
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
    monkeypatch.setattr(outbox_files, "_SHARED_MEMORY", memory)
    (memory / f"tensorboard-sidecar-{os.getuid()}").symlink_to(tmp_path)
    with pytest.raises(PermissionError):
        outbox_root()


def test_a_file_in_the_way_is_an_error(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_files, "_SHARED_MEMORY", memory)
    (memory / f"tensorboard-sidecar-{os.getuid()}").write_text("")
    with pytest.raises(FileExistsError):
        outbox_root()


def test_what_is_spilled_lies_apart_and_either_may_be_elsewhere(outboxes: Path, tmp_path: Path) -> None:
    assert outboxes not in spill_root().parents
    assert outbox_root(tmp_path / "new").parent == spill_root(tmp_path / "new").parent == tmp_path / "new"
    assert outbox_root(tmp_path / "new") != spill_root(tmp_path / "new")
    for folder in (spill_root(), outbox_root(tmp_path / "new"), spill_root(tmp_path / "new")):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_place_that_is_given_relative_is_told_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that claims the outbox has another working folder."""
    monkeypatch.chdir(tmp_path)
    assert outbox_root(Path("here")).is_relative_to(tmp_path / "here")


def test_what_is_wanted_is_given_where_there_is_room(outboxes: Path) -> None:
    assert outbox_capacity_bytes(outboxes, OUTBOX_BYTES_MIN) == OUTBOX_BYTES_MIN


@pytest.mark.parametrize("wanted", [-1, 0, OUTBOX_BYTES_MIN - 1])
def test_an_outbox_that_could_hold_nothing_is_refused(outboxes: Path, wanted: int) -> None:
    with pytest.raises(ValueError, match="expected 1,048,576 or more"):
        outbox_capacity_bytes(outboxes, wanted)


@pytest.mark.system
def test_a_telemetry_in_little_memory_refuses_and_lives(tmp_path: Path) -> None:
    """The outbox takes half of the free space. When others take the rest, a sparse map ends the process by SIGBUS."""
    program = """
from pathlib import Path
import torch
from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.outbox.outbox_files import outbox_capacity_bytes
memory = Path("/dev/shm")
print(outbox_capacity_bytes(memory))
telemetry = Telemetry("run", endpoint="tcp://127.0.0.1:1", drain_seconds=0.0)
picture = torch.zeros(3, 256, 256)
for step in range(5):
    telemetry.images(step, "before", picture)
try:
    (memory / "taken").write_bytes(bytes(2**24))
except OSError:
    pass
for step in range(100):
    telemetry.images(step, "after", picture)
    telemetry.scalars(step, {"a": 1.0})
print(telemetry.faults.total, telemetry.health()["telemetry/refused"] > 90)
try:
    Telemetry("other", endpoint="tcp://127.0.0.1:1")
except OSError as error:
    print(error)
telemetry.close()
"""
    said = run_in_small_memory(program, tmp_path, size="8m", mount_point=Path("/dev/shm"))
    capacity, alive, refused = said.splitlines()
    assert int(capacity) == 4 * 2**20
    assert alive == "0 True"
    assert "0 bytes are free for an outbox, 2,097,152 are needed" in refused
    assert "--shm-size" in refused
