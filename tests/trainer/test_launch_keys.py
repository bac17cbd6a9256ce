"""A run that sends to another machine: without keys it does not begin."""

from pathlib import Path

import pytest
from support.logger.key_ring import KeyRing

from tensorboard_sidecar.trainer.distributed import read_placement
from tensorboard_sidecar.trainer.launch import _start_telemetry
from tensorboard_sidecar.trainer.settings import Config, ConfigError

FAR = "tcp://logger.example.org:5555"


def refusal(config: Config) -> str:
    with pytest.raises(ConfigError) as refused:
        _start_telemetry(config, None, read_placement())
    return str(refused.value)


@pytest.mark.usefixtures("outboxes")
def test_a_logger_on_another_machine_needs_keys_and_the_commands_are_said() -> None:
    said = refusal(Config(run="demo", endpoint=FAR))
    for command in ("keys create DIR --name NAME", "keys allow NAME PUBLIC_KEY", "--server_key", "--client_key"):
        assert command in said


@pytest.mark.usefixtures("outboxes")
def test_keys_that_cannot_be_used_end_the_start_with_what_to_do(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    keys = ring.make_trainer(let_in=False)
    assert "client_key is not given" in refusal(Config(run="demo", endpoint=FAR, server_key=ring.server_public))
    ring.client_key().chmod(0o644)
    config = Config(run="demo", endpoint=FAR, server_key=str(ring.server_key), client_key=ring.client_key())
    said = refusal(config)
    assert "chmod 600" in said
    assert keys.client_secret not in said


def test_no_secret_is_among_the_settings_that_are_shown(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    keys = ring.make_trainer()
    config = Config(run="demo", endpoint=FAR, server_key=ring.server_public, client_key=ring.client_key())
    assert keys.client_secret not in str(config.parameters()) + repr(config)
