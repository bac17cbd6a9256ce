"""``doctor`` as people run it: on files that other programs wrote, on a terminal, and on a running logger."""

import json
import os
import pty
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tensorboardX
import torch
from support.logger.key_ring import KeyRing
from support.records.recordings import Said, write_recording
from support.running.programs import LoggerProcess, free_port, run_command
from support.running.tensorboard import TensorBoard, running_tensorboard
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from tensorboard_sidecar import SummaryWriter
from tensorboard_sidecar.protocol.messages import RunEnd, Scalars

pytestmark = pytest.mark.system

STEPS = 400
SPIKE = range(STEPS - 10, STEPS)


def loss_of(step: int, *, sick: bool) -> float:
    return 8.0 if sick and step in SPIKE else 0.4 + 1.6 * 0.99**step + 0.01 * random.Random(step).random()


def log(writer: Any, *, sick: bool, **style: Any) -> None:
    """Log a training as people do, with a NaN in a metric if it is sick."""
    for step in range(STEPS):
        writer.add_scalar("train/loss", loss_of(step, sick=sick), step, **style)
        if step % 50 == 0:
            writer.add_scalar("val/accuracy", step / STEPS, step)
            writer.add_histogram("layer/weight", torch.randn(64, generator=torch.Generator().manual_seed(step)), step)
            writer.add_text("note", f"step {step}", step)
    if sick:
        writer.add_scalar("aux/loss", float("nan"), STEPS)
    writer.add_hparams({"lr": 0.1, "amp": True}, {"hparam/accuracy": 0.9})
    writer.close()


def doctor(*arguments: str | Path) -> tuple[int, dict[str, set[tuple[str, str, str]]]]:
    """Return the exit code, and rule, tag and state of each finding by run; the runs are those of all entries."""
    done = run_command("doctor", *arguments, "--json")
    assert done.stderr == "", done.stderr
    found = json.loads(done.stdout)
    runs: dict[str, set[tuple[str, str, str]]] = {one["run"]: set() for one in found["not_checked"]}
    for one in found["findings"]:
        runs.setdefault(one["run"], set()).add((one["rule"], one["tag"], one["state"]))
    return done.returncode, runs


SICK = {("loss-spike", "train/loss", "open"), ("non-finite-scalar", "aux/loss", "open")}


@pytest.mark.parametrize("program", ["torch", "torch, as tensors", "tensorboardX", "this"])
def test_the_files_of_every_summary_writer_tell_the_same(program: str, tmp_path: Path) -> None:
    for name, sick in (("healthy", False), ("sick", True)):
        folder = str(tmp_path / "logs" / name)
        match program:
            case "torch":
                log(TorchWriter(folder), sick=sick)
            case "torch, as tensors":
                log(TorchWriter(folder), sick=sick, new_style=True)
            case "tensorboardX":
                log(tensorboardX.SummaryWriter(folder), sick=sick)
            case "this":
                log(SummaryWriter(folder), sick=sick)
    assert doctor(tmp_path / "logs" / "healthy") == (0, {"healthy": set()})
    assert doctor(tmp_path / "logs") == (4, {"healthy": set(), "sick": SICK})


def test_overlaid_curves_are_training_and_validation(tmp_path: Path) -> None:
    """A validation loss that rises is no training that diverges."""
    with TorchWriter(str(tmp_path / "logs")) as writer:
        for step in range(STEPS):
            rising = 1.0 + step / 100
            writer.add_scalars("loss", {"train": loss_of(step, sick=False), "val": rising}, step)
    code, runs = doctor(tmp_path / "logs")
    assert (code, runs["loss_val"]) == (0, set())


def test_a_writer_that_begins_again_in_its_folder_is_a_new_attempt(tmp_path: Path) -> None:
    with TorchWriter(str(tmp_path / "logs")) as writer:
        for step in range(STEPS):
            writer.add_scalar("train/loss", loss_of(step, sick=True), step)
    with TorchWriter(str(tmp_path / "logs"), purge_step=200) as writer:
        for step in range(200, STEPS):
            writer.add_scalar("train/loss", loss_of(step, sick=False), step)
    assert doctor(tmp_path / "logs") == (0, {"logs": {("loss-spike", "train/loss", "cleared")}})


def test_the_doctor_shows_a_table_and_its_progress_on_a_terminal(tmp_path: Path) -> None:
    said = [Said(step, Scalars({"train/loss": loss_of(step, sick=True)})) for step in range(STEPS)]
    write_recording(tmp_path, [*said, Said(STEPS, RunEnd("completed"))])
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "90", "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "tensorboard_sidecar", "doctor", str(tmp_path)]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the end of a terminal is an error
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    assert process.wait(60) == 5
    assert b"\x1b[33mwarn" in shown
    assert b"1 of 1: demo" in shown
    text = shown.decode().split("\x1b[K")[-1].replace("\x1b[33m", "").replace("\x1b[0m", "")
    assert max(map(len, text.splitlines())) <= 90


@pytest.fixture
def tensorboard(logger: LoggerProcess, tmp_path: Path) -> Iterator[TensorBoard]:
    logger.logdir.mkdir(parents=True)
    with running_tensorboard(logger.logdir, tmp_path / "tensorboard.log") as board:
        yield board


def live(logger: LoggerProcess, *arguments: str | Path) -> tuple[int, dict[str, str]]:
    """Return the exit code, and what is said of each hop."""
    done = run_command("doctor", "--live", "--endpoint", logger.endpoint, *arguments)
    assert done.stderr == "", done.stderr
    *hops, _ = done.stdout.splitlines()
    return done.returncode, {line[:12].rstrip(): line[13:] for line in hops}


def states(hops: dict[str, str]) -> list[str]:
    assert list(hops) == ["logger", "journal", "event file", "TensorBoard", "point shown"]
    return [text.split()[0].strip(":") for text in hops.values()]


def test_a_point_travels_to_tensorboard_and_every_hop_that_fails_is_named(
    logger: LoggerProcess, tensorboard: TensorBoard, tmp_path: Path
) -> None:
    there = ("--tensorboard", tensorboard.address)
    code, hops = live(logger, *there, "--seconds", "1")
    assert (code, states(hops)) == (4, ["failed", "not", "not", "ok", "not"])
    assert "nothing listens" in hops["logger"]

    logger.start()
    code, hops = live(logger, *there, "--seconds", "90")
    assert (code, states(hops)) == (0, ["ok"] * 5)
    code, hops = live(logger, *there, "--seconds", "90", "--logdir", logger.logdir)
    assert (code, states(hops)) == (0, ["ok"] * 5)
    assert len(list(logger.logdir.glob("doctor/*"))) == len(list(logger.recordings.glob("doctor/*"))) == 2

    code, hops = live(logger, "--tensorboard", f"http://127.0.0.1:{free_port()}")
    assert (code, states(hops)) == (4, ["ok", "ok", "not", "failed", "not"])
    code, hops = live(logger, *there, "--seconds", "1", "--logdir", tmp_path / "elsewhere")
    assert (code, states(hops)) == (4, ["ok", "ok", "failed", "ok", "not"])


def test_a_tensorboard_with_another_folder_is_named(logger: LoggerProcess, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    logger.start()
    with running_tensorboard(tmp_path / "other", tmp_path / "tensorboard.log") as board:
        code, hops = live(logger, "--tensorboard", board.address, "--seconds", "5")
    assert (code, states(hops)) == (4, ["ok", "ok", "not", "ok", "failed"])
    assert "other" in hops["TensorBoard"]
    assert "the logger's --logdir" in hops["point shown"]


def test_keys_that_do_not_fit_are_named(logger: LoggerProcess, tmp_path: Path) -> None:
    keys = KeyRing(tmp_path)
    keys.make_trainer(let_in=False)
    logger.flags = ("--keys", str(keys.logger))
    logger.start()
    nowhere = ("--tensorboard", f"http://127.0.0.1:{free_port()}")
    code, hops = live(logger, *nowhere)
    assert (code, states(hops)) == (4, ["failed", "not", "not", "failed", "not"])
    assert "speaks with keys" in hops["logger"]
    given = ("--server_key", keys.server_key, "--client_key", keys.client_key())
    code, hops = live(logger, *nowhere, *given)
    assert "keys allow" in hops["logger"] or "hangs up" in hops["logger"]  # a busy machine misses the reason
    keys.let_in()
    code, hops = live(logger, *nowhere, *given)
    assert (code, states(hops)) == (4, ["ok", "ok", "not", "failed", "not"])
