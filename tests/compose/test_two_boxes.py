"""The README's page of two boxes: logger and TensorBoard in containers, the trainer outside of them, with a key."""

import re
from pathlib import Path

import pytest
from compose.judge import LOG_INTERVAL, RUN, STEPS_AN_EPOCH, shown_steps
from support.running.compose import Compose
from support.running.programs import free_port, run_command

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

FLAGS = ("--epochs", "1", "--batch_size", "8", "--log_interval", f"{LOG_INTERVAL}", "--embed_dim", "32")


def test_a_trainer_elsewhere_is_let_in_by_its_key_and_only_then(compose: Compose, tmp_path: Path) -> None:
    port = free_port()
    compose.set(LOGGER_PUBLISH=f"127.0.0.1:{port}")
    compose.up("logger", "tensorboard")
    assert compose("ps", "--all", "--services").split() == ["keys", "logger", "tensorboard"]
    server_key = compose("run", "--rm", "keys", "list").split()[0]

    made = run_command("keys", "create", tmp_path / "keys", "--name", "gpu-box")
    assert made.returncode == 0, made.stderr
    client_key = re.findall(r"^public key  (\S+)", made.stdout)[0]
    assert run_command("demo-data", tmp_path / "data", "--images", "60").returncode == 0

    trainer = ("--root_dir", tmp_path / "data", "--savedir", tmp_path / "checkpoints", "--run", RUN, *FLAGS)
    there = ("--endpoint", f"tcp://127.0.0.1:{port}", "--server_key", server_key)
    refused = run_command("train", *trainer, *there)
    assert refused.returncode == 2
    assert "client_key" in refused.stderr

    compose("run", "--rm", "keys", "allow", "gpu-box", client_key)
    trained = run_command("train", *trainer, *there, "--client_key", tmp_path / "keys" / "gpu-box.key")
    assert trained.returncode == 0, trained.stderr
    steps = list(range(LOG_INTERVAL, STEPS_AN_EPOCH + 1, LOG_INTERVAL))
    compose.tensorboard.wait_for(f"steps {steps}", lambda tb: shown_steps(tb, "loss/train/total") == steps)

    recorded_before = compose.recorded()
    compose("run", "--rm", "keys", "revoke", "gpu-box")
    again = ("--client_key", tmp_path / "keys" / "gpu-box.key", "--outbox_dir", tmp_path / "outbox")
    flags = ("--resume", tmp_path / "checkpoints" / RUN, "--epochs", "2", "--drain_seconds", "10")
    revoked = run_command("train", "--root_dir", tmp_path / "data", *flags, *there, *again)
    assert revoked.returncode == 0, "training goes on"
    assert "refuses this trainer's key" in revoked.stderr
    assert compose.recorded() == recorded_before
