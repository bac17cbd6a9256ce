"""What all methods of a writer share: steps, times, defaults inside of a block."""

from pathlib import Path

import pytest
from support.records.recordings import Said
from support.running.writing import records, written

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.telemetry.writer.base import read_step
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods


def test_no_step_is_the_default_and_a_float_loses_its_fraction() -> None:
    assert [read_step(None), read_step(None, 5), read_step(7), read_step(7.9), read_step(-1), read_step("8")] == [
        *(0, 5, 7, 7, -1, 8)
    ]


def test_a_block_gives_steps_and_times_to_calls_without_their_own(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        with writer.use_metadata(global_step=10, walltime=20.0) as inside:
            assert inside is writer
            writer.add_scalar("a", 1.0)
            writer.add_scalar("a", 1.0, 3, walltime=4.0)
            writer.add_text("t", "x")
            writer.file_writer.add_summary(b"")
            with writer.use_metadata(global_step=11):
                writer.add_text("t", "x")
        writer.add_text("t", "x")

    kept = records(tmp_path, write)
    assert [record.step for record in kept] == [10, 3, 10, 10, 11, 0]
    assert [record.wall_time_ns for record in kept[:4]] == [20 * 10**9, 4 * 10**9, 20 * 10**9, 20 * 10**9]
    assert all(record.wall_time_ns > 10**18 for record in kept[4:])


def test_the_defaults_end_with_the_block_also_after_an_error(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        with pytest.raises(ZeroDivisionError), writer.use_metadata(global_step=10):
            raise ZeroDivisionError
        writer.add_scalar("a", 1.0)

    assert written(tmp_path, write) == [Said(0, Scalars({"a": 1.0}))]


def test_a_wrong_default_step_is_a_fault_and_the_block_runs(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        with telemetry.writer.use_metadata(global_step="soon"):
            telemetry.writer.add_text("t", "x")
        assert telemetry.faults.total == 1


def test_a_folder_has_both_peers_names(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        writer = telemetry.writer
        assert writer.log_dir == writer.logdir == writer.get_logdir() == str(tmp_path / "run")
