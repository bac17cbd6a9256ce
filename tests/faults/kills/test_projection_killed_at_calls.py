"""The projection is killed before, in and after each call that changes the log directory."""

import random
from pathlib import Path
from typing import Any, Final

import pytest
from faults.harness.disk_shim import MOMENTS, Moment, Plan, install
from faults.harness.effort import SOAKING
from support.machine import children
from support.records.events import folder_bytes, id_of, load_folder
from support.records.recordings import every_kind, make_stream, write_recording

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection import replay as replay_module
from tensorboard_sidecar.logger_service.projection.replay import replay

QUICK: Final = 12
TURN_SIZE_BYTES: Final = 512


@pytest.fixture(autouse=True)
def _small_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a few records leave in one write, so that there are many."""
    monkeypatch.setattr(replay_module, "_TURN_SIZE_BYTES", TURN_SIZE_BYTES)


def count_calls(recordings: Path, logdir: Path) -> int:
    """Replay in a child that lives; return how many calls that took."""
    told = logdir.with_suffix(".calls")

    def work() -> None:
        shim = install(Plan(str(logdir)))
        replay([recordings], logdir)
        told.write_text(str(shim.calls))

    assert children.fork(work) == 0
    return int(told.read_text())


def die_at(recordings: Path, logdir: Path, number: int, moment: Moment) -> None:
    """Replay in a child that is killed at a call."""

    def work() -> None:
        install(Plan(str(logdir), kill_at=number, moment=moment))
        replay([recordings], logdir)

    assert children.fork(work) == -9


def is_events(name: str) -> bool:
    """Tell whether a file holds events; the markers of the embedding projector hold none."""
    return "/events.out." in name and not name.endswith(".projector")


def other_files(logdir: Path) -> dict[str, bytes]:
    """Return what is not an event file of the run or of a folder beside, such as the projector's files."""
    return {name: data for name, data in folder_bytes(logdir).items() if not is_events(name)}


def events_of(logdir: Path) -> dict[str, list[Any]]:
    """Return the events of the run and of each folder beside, by folder."""
    folders = {str(Path(name).parent) for name in folder_bytes(logdir) if is_events(name)}
    return {folder: load_folder(logdir / folder) for folder in sorted(folders)}


def test_a_projection_killed_at_any_call_writes_every_event_once(tmp_path: Path, chance: random.Random) -> None:
    recordings = write_recording(tmp_path / "recordings", every_kind((1,)), make_stream("demo"))
    calls = count_calls(recordings, tmp_path / "whole")
    whole, files = events_of(tmp_path / "whole"), other_files(tmp_path / "whole")
    assert {"demo", "demo/loss_train", "demo/loss_val", "demo/raw/sub"} < set(whole)
    points = [(number, moment) for number in range(1, calls + 1) for moment in MOMENTS]
    for number, moment in points if SOAKING else chance.sample(points, QUICK):
        print(f"killed {moment} call {number} of {calls}")
        logdir = tmp_path / f"{moment}-{number}"
        die_at(recordings, logdir, number, moment)
        replay([recordings], logdir)
        assert events_of(logdir) == whole
        for events in whole.values():
            assert len({id_of(event) for event in events}) == len(events)
        assert other_files(logdir) == files
        assert not verify(logdir).lossy
