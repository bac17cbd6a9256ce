"""The drop-in replacement of both peers' SummaryWriter: parameters, scalars, folders, faults."""

import inspect
import math
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pytest
import torch
from support.ids import plain
from support.machine.children import fork
from support.machine.slow_device import SlowDevice
from support.records.recordings import Said
from support.running.spoken import read_said
from support.running.writing import kept_with_faults, records, written
from tensorboardX import SummaryWriter as XWriter
from torch import nn
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Images, Message, Point, RunEnd, RunStart, Scalars
from tensorboard_sidecar.telemetry import pipeline
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods


def public_methods(writer: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(writer, inspect.isfunction)
        if name in ("__enter__", "__exit__", "_get_file_writer") or not name.startswith("_")
    }


TORCHS: Final = public_methods(TorchWriter)
XS: Final = public_methods(XWriter)
TOLD_BY_TYPE: Final = {
    "add_scalar": ("display_name", "summary_description"),
    "add_hparams": ("name", "global_step"),
    "add_image_with_boxes": ("dataformats", "labels"),
    "add_onnx_graph": ("onnx_model_file",),
}
"""Parameters that tensorboardX has at another place than torch."""


@pytest.mark.parametrize("name", sorted(TORCHS))
def test_a_method_has_the_parameters_of_torchs_writer(name: str) -> None:
    """By name, by place and by default; more parameters may follow."""
    ours = inspect.signature(getattr(WriterMethods, name)).parameters.values()
    found, expected = (
        [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]
        for parameters in (ours, TORCHS[name].parameters.values())
    )
    if name == "add_onnx_graph":  # the path has two names, and none is needed
        expected = [
            (parameter, kind, None if parameter == "prototxt" else default) for parameter, kind, default in expected
        ]
    assert found[: len(expected)] == expected
    assert all(default is not inspect.Parameter.empty for _, _, default in found[len(expected) :])


@pytest.mark.parametrize("name", sorted(XS))
def test_a_method_has_the_parameters_of_tensorboardxs_writer(name: str) -> None:
    """By name and by default; by place too, where torch has no other parameter at that place."""
    ours = inspect.signature(getattr(WriterMethods, name)).parameters
    places = list(ours)
    for place, (parameter, theirs) in enumerate(XS[name].parameters.items()):
        if theirs.kind == inspect.Parameter.VAR_KEYWORD:
            continue
        if name == "add_onnx_graph" and place:
            assert parameter in ours
            continue
        # tensorboardX 2.6.2 demands the step of a sound, later versions do not.
        demanded = (name, parameter) == ("add_audio", "global_step") and theirs.default is inspect.Parameter.empty
        assert ours[parameter].default == (None if demanded else theirs.default)
        assert places[place] == parameter or parameter in TOLD_BY_TYPE[name]


def test_every_method_of_both_peers_is_there() -> None:
    assert (TORCHS.keys() | XS.keys()) - set(dir(WriterMethods)) == set()


def test_a_scalar_is_a_record(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_scalar("my_metric/name", 0.5, 7)
        writer.add_scalar("my_metric/name", torch.tensor(1.5), global_step=8)
        writer.add_scalar("my_metric/name", 2)
        writer.flush()

    assert written(tmp_path, write) == [
        Said(7, Scalars({"my_metric/name": 0.5})),
        Said(8, Scalars({"my_metric/name": 1.5})),
        Said(0, Scalars({"my_metric/name": 2.0})),
    ]


def test_each_form_of_a_point_is_one_of_both_peers(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_scalar("a", 0.5, 7, None, True)
        writer.add_scalar("a", torch.tensor(0.5), 7, new_style=True, double_precision=True)
        writer.add_scalar("a", 0.5, 7, None, "shown", "*described*")
        writer.add_scalar("a", np.float32(0.5), 7, display_name="shown", summary_description="*described*")
        writer.add_scalar("a", 0.5, 7, double_precision=True)

    named = Point("a", 0.5, "simple", "shown", "*described*")
    points: list[Message] = [Point("a", 0.5, "float"), Point("a", 0.5, "double"), named, named, Point("a", 0.5)]
    assert written(tmp_path, write) == [Said(7, point) for point in points]


def test_a_point_on_a_device_arrives_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = SlowDevice()
    monkeypatch.setattr(pipeline, "start_copy", device.start_copy)
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        telemetry.writer.add_scalar("a", torch.zeros((), device="meta"), 7, walltime=5.0)
        device.copies[0].arrive()
    assert read_said(tmp_path)[1:-1] == [Said(7, Point("a", 1.0))]


def test_steps_and_values_of_other_types_are_as_the_peers_take_them(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_scalar("a", np.array([1.0]), 7.9)  # type: ignore[arg-type]
        writer.add_scalar("a", torch.ones(1, 1), np.float32(8))  # type: ignore[arg-type]
        writer.add_scalar("a", 1.0, torch.tensor(9))  # type: ignore[arg-type]
        writer.add_image("i", torch.zeros(4, 5, 3), 10, None, "hwc")
        writer.add_images("i", torch.zeros(2, 4, 5, 3), 11, dataformats="nhwc")
        writer.add_audio("s", torch.zeros(1, 100), 12, 16_000.0)  # type: ignore[arg-type]
        writer.add_graph(nn.Linear(2, 2), torch.zeros(1, 2), verbose=False, use_strict_trace=False)

    said = written(tmp_path, write)
    assert [step for step, _ in said] == [*range(7, 13), 0]
    assert {repr(message) for _, message in said[:3]} == {repr(Scalars({"a": 1.0}))}
    shapes = [message.images.shape for _, message in said if isinstance(message, Images)]
    assert shapes == [(1, 4, 5, 3), (2, 4, 5, 3)]


def write_with_times(writer: WriterMethods, times: list[Any]) -> None:
    """Call every method that has a wall time, each with the next time."""
    cloud, curve = torch.zeros(1, 3, 3), np.ones(4)
    time = iter(times)
    writer.add_scalar("a", 1.0, 7, next(time))
    writer.add_scalars("a", {"b": 1.0}, 7, next(time))
    writer.add_histogram("h", np.ones(3), 7, "tensorflow", next(time))
    writer.add_histogram("h", np.ones(3), 7, "auto", next(time))
    writer.add_histogram_raw("h", 0, 1, 2, 1, 1, [1.0], [2], 7, next(time))
    writer.add_image("i", torch.zeros(3, 4, 5), 7, next(time))
    writer.add_images("i", torch.zeros(2, 3, 4, 5), 7, next(time))
    writer.add_image_with_boxes("i", torch.zeros(3, 4, 5), torch.ones(1, 4), 7, next(time))
    writer.add_video("v", torch.zeros(1, 2, 3, 4, 5), 7, 4, next(time))
    writer.add_audio("s", torch.zeros(100), 7, 8_000, next(time))
    writer.add_text("t", "x", 7, next(time))
    writer.add_pr_curve("p", curve, curve, 7, 127, None, next(time))
    writer.add_pr_curve_raw("p", *[curve] * 6, 7, 127, None, next(time))
    writer.add_mesh("m", cloud, None, None, None, 7, next(time))
    writer.add_tensor("x", curve, 7, next(time))
    writer.file_writer.add_summary(b"", 7, next(time))
    writer.file_writer.add_event(b"\x2a\x00", 7, next(time))


def test_a_wall_time_is_that_of_the_record(tmp_path: Path) -> None:
    times = [1_722_222_222.5 + number for number in range(17)]
    kept = records(tmp_path, lambda writer: write_with_times(writer, times))
    assert [record.wall_time_ns for record in kept] == [round(time * 1e9) for time in times]
    assert {record.step for record in kept} == {7}


@pytest.mark.parametrize(
    "bad", ["yesterday", math.nan, math.inf, 1e300, [], object(), torch.zeros((), device="meta")], ids=plain
)
def test_a_wrong_wall_time_is_a_fault_and_the_record_has_the_time_now(tmp_path: Path, bad: Any) -> None:
    said = kept_with_faults(tmp_path, lambda writer: write_with_times(writer, [bad] * 17), 17)
    assert len(said) == 17


def test_a_wall_time_is_any_number(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        for time in (0, 0.0, np.float64(2.5), torch.tensor(3), -1.0):
            writer.add_scalar("a", 1.0, 7, time)  # type: ignore[arg-type]

    times = [record.wall_time_ns for record in records(tmp_path, write)]
    assert times == [0, 0, 2_500_000_000, 3_000_000_000, -1_000_000_000]


def test_an_unknown_method_is_an_attribute_error(tmp_path: Path) -> None:
    """A typo is no fault of telemetry: a person wants to see the error at once, as with the peers' writers."""
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        with pytest.raises(AttributeError, match="add_scaler"):
            telemetry.writer.add_scaler("a", 1.0)  # type: ignore[attr-defined]
        assert telemetry.faults.total == 0


def test_who_asks_for_a_folder_gets_that_of_the_recording_or_the_runs_name(tmp_path: Path) -> None:
    with Telemetry("team/run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        assert telemetry.writer.log_dir == telemetry.writer.get_logdir() == str(tmp_path / "team/run")
        assert Path(telemetry.writer.log_dir).is_dir()
    other = Telemetry("team/run", endpoint="tcp://127.0.0.1:1", drain_seconds=0)
    assert other.writer.get_logdir() == "team/run"
    other.close()


@pytest.mark.parametrize(("error", "status"), [(None, "completed"), (ValueError, "failed")])
def test_a_with_block_of_the_writer_closes_the_telemetry(
    tmp_path: Path, error: type[Exception] | None, status: Literal["completed", "failed"]
) -> None:
    def train() -> None:
        with Telemetry("run", endpoint=None, record=tmp_path, strict=True).writer as writer:
            writer.add_scalar("a", 1.0, 3)
            if error is not None:
                raise error

    with pytest.raises(error) if error else nullcontext():
        train()
    assert read_said(tmp_path)[1:] == [Said(3, Scalars({"a": 1.0})), Said(3, RunEnd(status))]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_scalar", ([], 1.0)),
        ("add_scalar", ("a", 1.0, np.array([1, 2]))),
        ("add_scalar", ()),
        ("add_scalar", ("a", 1.0, math.nan)),
        ("add_scalar", ("a", 1.0, torch.zeros((), device="meta"))),
        ("add_hparams", ({"a": object()}, {})),
        ("add_hparams", ([], {})),
        ("add_embedding", (torch.ones(2, 3), torch.ones(2, device="meta"))),
        ("add_embedding", (torch.ones(2, 3), ["x"])),
        ("add_embedding", (torch.ones(2, 3), ["x", "y", "z"])),
        ("add_embedding", (torch.ones(2, 3), None, torch.ones(3, 3, 8, 8))),
        ("add_embedding", (torch.ones(2, 3, 4),)),
        ("add_custom_scalars_multilinechart", (None,)),
        ("add_custom_scalars_multilinechart", ()),
        ("add_custom_scalars_multilinechart", (["a"], {})),
        ("add_custom_scalars_marginchart", (["a"],)),
        ("add_scalars", ("a", None)),
        ("add_histogram", ({}, torch.ones(3))),
        ("add_embedding", (torch.ones(2, 3), [("x",), ("y", "z")], None, 0, "t", ["a", "b"])),
        ("add_graph", (nn.Linear(3, 4), torch.ones(2, 5))),
        ("add_custom_scalars", ({"a": {"b": ["Multiline"]}},)),
        ("add_custom_scalars", ({"a": {"b": [None, []]}},)),
    ],
)
def test_wrong_calls_are_faults(tmp_path: Path, name: str, arguments: tuple[Any, ...]) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        getattr(telemetry.writer, name)(*arguments)
        assert telemetry.faults.total == 1


def test_closing_the_writer_closes_the_telemetry(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    telemetry.writer.add_scalar("a", 1.0, 1)
    telemetry.writer.close()
    assert read_said(tmp_path)[1:] == [Said(1, Scalars({"a": 1.0})), Said(1, RunEnd("completed"))]
    with pytest.raises(RuntimeError, match="closed"):
        telemetry.scalars(1, {"a": 1.0})


def streams(folder: Path) -> list[list[Said]]:
    """Return what each stream of a run says between start and end; check that all but the first continue the run."""
    said = sorted((read_said(found) for found in folder.rglob("stream-*")), key=lambda each: each[1].step)
    assert [each[0].message for each in said] == [RunStart(), *[RunStart(continues=True)] * (len(said) - 1)]
    return [each[1:-1] for each in said]


def test_a_call_after_the_close_opens_again_as_in_the_tutorial_of_torch(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        writer = telemetry.writer
        writer.add_scalar("a", 1.0, 1)
        writer.close()
        writer.close()
        assert writer.file_writer is None
        writer.flush()
        for step in (2, 3):
            writer.add_scalar("a", 1.0, step)
        assert writer.file_writer is not None
        telemetry.scalars(4, {"a": 1.0})
        writer.close()
        writer.add_text("t", "x", 5)
    said = streams(tmp_path)
    assert [[each.step for each in stream] for stream in said] == [[1], [2, 3, 4], [5]]
    assert telemetry.faults.total == 0


@pytest.mark.parametrize("before", [True, False])
def test_the_end_of_the_telemetry_ends_its_writer(tmp_path: Path, before: bool) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    if before:
        telemetry.writer.close()
    telemetry.close()
    telemetry.writer.add_scalar("a", 1.0, 1)
    telemetry.writer.add_text("t", "x", 1)
    assert telemetry.faults.total == 2
    assert not telemetry.resume()
    assert len(list(tmp_path.rglob("stream-*"))) == 1


def test_the_end_of_a_block_ends_the_writer(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    with telemetry.writer as writer:
        writer.close()
    writer.add_scalar("a", 1.0, 1)
    assert telemetry.faults.total == 1


def test_a_writer_that_cannot_be_opened_again_is_a_fault(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path / "records")
    telemetry.writer.close()
    shutil.rmtree(tmp_path / "records")
    (tmp_path / "records").touch()
    telemetry.writer.add_scalar("a", 1.0, 1)
    telemetry.writer.add_text("t", "x", 2)
    assert telemetry.faults.total == 2
    (tmp_path / "records").unlink()
    telemetry.writer.add_text("t", "x", 3)
    telemetry.close()
    assert [said.step for said in read_said(tmp_path / "records")[1:-1]] == [3]


def test_a_forked_child_does_not_open_the_telemetry_of_its_parent_again(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    telemetry.writer.close()

    def child() -> None:
        telemetry.writer.add_scalar("a", 1.0, 1)
        assert telemetry.faults.total == 1

    assert fork(child) == 0
    assert len(list(tmp_path.rglob("stream-*"))) == 1
    telemetry.close()
