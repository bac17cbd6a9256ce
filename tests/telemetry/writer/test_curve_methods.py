"""Overlays, rows of hyperparameters, layouts of charts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.ids import plain
from support.records.recordings import Said
from support.running.writing import kept_with_faults, one, written

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Chart, HParams, Layout, Overlay
from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.telemetry.writer import curve_methods
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods


def test_scalars_are_curves_of_one_chart_in_folders(tmp_path: Path) -> None:
    values: dict[str, Any] = {"train": 0.5, "val/top 1": torch.tensor(0.25)}
    assert one(tmp_path, lambda writer: writer.add_scalars("loss/all", values, 7)) == Overlay(
        "loss/all", {"loss_all_train": 0.5, "loss_all_val/top 1": 0.25}
    )


def test_no_scalars_are_no_record(tmp_path: Path) -> None:
    assert written(tmp_path, lambda writer: writer.add_scalars("loss", {}, 7)) == []


def test_a_bad_scalar_costs_its_own_curve(tmp_path: Path) -> None:
    values: dict[str, Any] = {"a": 0.5, "b": "no number", "c": 1}
    said = kept_with_faults(tmp_path, lambda writer: writer.add_scalars("loss", values, 7), 1)
    assert said == [Said(7, Overlay("loss", {"loss_a": 0.5, "loss_c": 1.0}))]


def test_curves_whose_names_become_alike_stay_apart(tmp_path: Path) -> None:
    message = one(tmp_path, lambda writer: writer.add_scalars("loss", {"a": 0.5, "../a": 1.0, "a/": 2.0}, 7))
    assert isinstance(message, Overlay)
    assert sorted(message.values.values()) == [0.5, 1.0, 2.0]
    assert all(check_run(folder) for folder in message.values)


def test_exported_scalars_are_those_of_add_scalars(tmp_path: Path) -> None:
    file = tmp_path / "scalars.json"
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        writer = telemetry.writer
        writer.add_scalar("loss", 9.0, 1)
        writer.add_scalars("loss", {"train": 0.5, "val": 0.25}, 1, 100.0)
        writer.add_scalars("loss", {"train": 0.75, "device": torch.zeros((), device="meta")}, 2, 101.0)
        train, val = (str(Path(writer.get_logdir(), name)) for name in ("loss_train", "loss_val"))
        expected = {train: [[100.0, 1, 0.5], [101.0, 2, 0.75]], val: [[100.0, 1, 0.25]]}
        assert writer.scalar_dict == expected
        writer.export_scalars_to_json(str(file))
        assert json.loads(file.read_text()) == expected
        writer.export_scalars_to_json(str(file))
        assert json.loads(file.read_text()) == {}


def test_few_exported_scalars_are_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_methods, "EXPORTED_POINTS_MAX", 3)
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for step in range(5):
            telemetry.writer.add_scalars("loss", {"train": 0.5}, step, 0.0)
        [points] = telemetry.writer.scalar_dict.values()
    assert points == [[0.0, step, 0.5] for step in (2, 3, 4)]


def test_a_file_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    kept_with_faults(tmp_path, lambda writer: writer.export_scalars_to_json(str(tmp_path / "no/where")), 1)


def test_hyperparameters_are_a_row_in_a_folder(tmp_path: Path) -> None:
    parameters = {"lr": 0.1, "beta": torch.tensor(0.5), "seed": None, "deep": True}
    domains = {"lr": [0.1, 1], "seed": ["None", "x"], "deep": [True, False]}
    message = one(tmp_path, lambda writer: writer.add_hparams(parameters, {"best": 0.5}, domains, "here", 7))
    assert message == HParams({"lr": 0.1, "beta": 0.5, "seed": "None", "deep": True}, {"best": 0.5}, "here", domains)


def test_each_call_of_add_hparams_is_a_row_of_its_own(tmp_path: Path) -> None:
    """The name of a row is the time of the call, as with both peers; the step is 0."""

    def write(writer: WriterMethods) -> None:
        writer.add_scalar("accuracy", 0.5, 9)
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.5})
        writer.add_hparams({"lr": 0.1}, {"accuracy": 0.75})

    [first, second] = written(tmp_path, write)[1:]
    assert first.step == second.step == 0
    assert isinstance(first.message, HParams)
    assert isinstance(second.message, HParams)
    assert float(first.message.folder) < float(second.message.folder)


@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [
        (("trial/1", 7), {}),
        ((), {"name": "trial/1", "global_step": 7}),
        ((None, "trial/1", 7), {}),
        ((), {"run_name": "../trial/1", "global_step": 7}),
    ],
)
def test_both_peers_orders_of_parameters_name_the_row(
    tmp_path: Path, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    message = one(tmp_path, lambda writer: writer.add_hparams({"lr": 0.1}, {}, *arguments, **keywords))
    assert message == HParams({"lr": 0.1}, {}, "trial/1")


@pytest.mark.parametrize(
    "domains",
    [
        *(
            {"other": [1]},
            {"lr": ["text"]},
            {"lr": 0.5},
            {"lr": "text"},
            {"lr": [True]},
            {"name": [1.0]},
            [("lr", [1])],
        ),
        *({"lr": [object()]}, {"lr": range(10**9)}),
    ],
    ids=plain,
)
def test_a_domain_that_cannot_be_shown_is_a_fault_and_the_row_is_kept(tmp_path: Path, domains: Any) -> None:
    parameters = {"lr": 0.5, "name": "x"}
    said = kept_with_faults(tmp_path, lambda writer: writer.add_hparams(parameters, {}, domains, "r"), 1)
    assert said == [Said(0, HParams({"lr": 0.5, "name": "x"}, {}, "r"))]


def test_layouts_are_records(tmp_path: Path) -> None:
    def write(writer: WriterMethods) -> None:
        writer.add_custom_scalars({"Losses": {"all": ["Multiline", ["loss/.*"]], "m": ["Margin", ["a", "b", "c"]]}})
        writer.add_custom_scalars_multilinechart(["a", "b"], "Losses", "both")
        writer.add_custom_scalars_marginchart(["a", "b", "c"])

    assert written(tmp_path, write) == [
        Said(
            0,
            Layout({"Losses": {"all": Chart("multiline", ["loss/.*"]), "m": Chart("margin", ["a", "b", "c"])}}),
        ),
        Said(0, Layout({"Losses": {"both": Chart("multiline", ["a", "b"])}})),
        Said(0, Layout({"default": {"untitled": Chart("margin", ["a", "b", "c"])}})),
    ]
