"""A projection process, killed repeatedly, writes every event once."""

import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest
from support.records.events import event_files, id_of, load_folder
from support.records.recordings import Said, every_kind, write_recording

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.messages import Scalars

pytestmark = pytest.mark.system

KILLS = 3


def size(logdir: Path) -> int:
    return sum(path.stat().st_size for path in event_files(logdir / "demo"))


def test_killed_again_and_again_it_writes_every_event_once(tmp_path: Path) -> None:
    values = {f"loss/train/{number}": 0.5 for number in range(19)}
    said = [*every_kind((1, 2)), *(Said(step, Scalars(values)) for step in range(3, 20_000))]
    folder = write_recording(tmp_path / "recordings", said, segment_size_max_bytes=2**20)
    replay([folder], tmp_path / "whole")
    whole = size(tmp_path / "whole")
    command = [sys.executable, "-m", "tensorboard_sidecar", "replay", str(folder), "--logdir", str(tmp_path / "log")]
    for number in range(1, KILLS + 1):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = monotonic() + 60
        while size(tmp_path / "log") < whole * number / (KILLS + 1) and monotonic() < deadline:
            sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, check=True, capture_output=True).returncode == 0
    assert len(event_files(tmp_path / "log" / "demo")) == KILLS + 1
    events = load_folder(tmp_path / "log" / "demo")
    assert events == load_folder(tmp_path / "whole" / "demo")
    assert len({id_of(event) for event in events}) == len(events)
    assert not verify(tmp_path / "log").lossy
