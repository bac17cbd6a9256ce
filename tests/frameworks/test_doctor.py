"""What the doctor says of the log directory that Lightning's own logger wrote."""

import json
from pathlib import Path

import pytest
import torch
from frameworks.programs.lightning_stock import train
from lightning.pytorch.loggers import TensorBoardLogger

from tensorboard_sidecar.__main__ import main

RUN = "lightning_logs/version_0"


def doctor(capsys: pytest.CaptureFixture[str], folder: Path) -> tuple[int, dict[str, list[dict[str, str]]]]:
    capsys.readouterr()
    code = main(["doctor", str(folder), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_healthy_training_has_nothing_open_and_the_overlaid_curves_are_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight steps: too few for a verdict on most rules, which is said."""
    train(TensorBoardLogger(tmp_path, log_graph=True))
    code, found = doctor(capsys, tmp_path)
    assert (code, found["findings"]) == (0, [])
    assert {one["run"] for one in found["not_checked"]} == {RUN, f"{RUN}/both_one", f"{RUN}/both_two"}
    unchecked = {one["rule"]: one["reason"] for one in found["not_checked"] if one["run"] == RUN}
    assert "100 points" in unchecked["loss-spike"]


def test_a_loss_that_is_no_number_is_found_under_the_tags_that_lightning_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "frameworks.programs.lightning_stock.cross_entropy",
        lambda output, labels: torch.nn.functional.cross_entropy(output, labels) + float("nan"),
    )
    train(TensorBoardLogger(tmp_path))
    code, found = doctor(capsys, tmp_path)
    assert code == 4
    tags = {one["tag"] for one in found["findings"] if one["rule"] == "non-finite-scalar"}
    assert {"loss/train_step", "loss/train_epoch", "loss/val"} <= tags
    assert {(one["run"], one["state"]) for one in found["findings"]} == {(RUN, "open")}
