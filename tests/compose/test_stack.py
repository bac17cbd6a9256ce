"""``docker compose up`` from nothing: what is shown, and what nobody may do."""

import json
import shutil
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from compose.judge import RUN, check, check_tensorboard
from support.running.compose import SERVICES, Compose, docker
from support.source import ROOMS, ROOT

from tensorboard_sidecar import __version__

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

BASE = "python:3.11-slim"
LOGGER_OVER_BASE_MAX_BYTES = 250 * 10**6
REBUILD_MAX_SECONDS = 30
CONTEXT = (".dockerignore", "constraints.txt", "container_command.sh", "pyproject.toml", "src", *ROOMS)

STRANGER = """
import zmq
from zmq.utils.monitor import recv_monitor_message as recv
socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 0
socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
socket.curve_serverkey = open("/run/secrets/trainer/server.pub", "rb").read().strip()
events = socket.get_monitor_socket()
socket.connect("tcp://logger:5555")
ends = {zmq.EVENT_HANDSHAKE_SUCCEEDED: "in", zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused"}
while (event := recv(events)["event"]) not in ends:
    pass
print(ends[event], flush=True)
"""


def refused(compose: Compose, service: str, command: str) -> str:
    """Return what a shell says when it fails inside a container."""
    return compose.inside(service, "sh", "-c", f"if {command}; then exit 1; fi 2>&1")


def test_up_from_nothing_shows_every_tag(finished: Compose, tmp_path: Path) -> None:
    check(finished, tmp_path, epochs=2, attempts=1)


def test_logger_and_tensorboard_say_that_they_are_well(finished: Compose) -> None:
    finished.wait_for_health("logger")
    finished.wait_for_health("tensorboard")


def test_up_again_does_not_train_again(finished: Compose) -> None:
    before = finished.recorded()
    finished.up()
    finished.wait_for_end()
    assert f"run {RUN} has finished its 2 epochs" in finished("logs", "trainer")
    assert finished.recorded() == before
    check_tensorboard(finished.tensorboard, 2)


@pytest.mark.parametrize("service", [*SERVICES, "keys"])
def test_a_container_may_do_no_more_than_it_must(finished: Compose, service: str) -> None:
    found = finished.inspect(service)
    host = found["HostConfig"]
    assert found["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["Privileged"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}


@pytest.mark.parametrize("service", ["logger", "tensorboard"])
def test_what_runs_inside_is_nobody_with_no_rights(finished: Compose, service: str) -> None:
    status = finished.inside(service, "sh", "-c", "cat /proc/[0-9]*/status")
    for name, values in (("Uid", {"10001"}), ("CapEff", {"0000000000000000"}), ("NoNewPrivs", {"1"})):
        lines = [line.split()[1:] for line in status.splitlines() if line.startswith(f"{name}:")]
        assert len(lines) >= 2
        assert {value for line in lines for value in line} == values
    for path in ("/app/x", "/usr/local/lib/x", "/x"):
        assert "Read-only file system" in refused(finished, service, f"touch {path}")


def test_tensorboard_may_read_and_not_write(finished: Compose) -> None:
    assert "Read-only file system" in refused(finished, "tensorboard", "touch /runs/x")


def test_nothing_is_published_but_on_this_machine(finished: Compose) -> None:
    published = {service: finished.inspect(service)["NetworkSettings"]["Ports"] for service in SERVICES}
    addresses = [bound for ports in published.values() for bounds in ports.values() for bound in bounds or ()]
    assert len(addresses) == 2
    assert {bound["HostIp"] for bound in addresses} == {"127.0.0.1"}
    assert not published["trainer"]


def test_the_logger_image_is_small_and_has_no_torch(finished: Compose) -> None:
    names = ("tensorboard-sidecar-logger", BASE)
    logger, base = (int(docker("image", "inspect", "--format", "{{.Size}}", name)) for name in names)
    assert logger - base < LOGGER_OVER_BASE_MAX_BYTES
    program = (
        "from importlib.util import find_spec as f; print([f(name) for name in ('torch', 'tensorboard', 'trainer')])"
    )
    assert finished.inside("logger", "python", "-c", program).strip() == "[None, None, None]"


def test_secrets_are_nowhere_but_in_their_files(finished: Compose) -> None:
    folder = "/run/secrets/logger"
    secret = finished.inside("logger", "cat", f"{folder}/server.key").split()[-1]
    assert len(secret) == 40
    modes = finished.inside("logger", "stat", "-c", "%a %u", folder, f"{folder}/server.key")
    assert modes.splitlines() == ["700 10001", "600 10001"]
    assert "Read-only file system" in refused(finished, "logger", f"touch {folder}/x")
    told = [json.dumps(finished.inspect(service)) for service in (*SERVICES, "keys")]
    assert not any(secret in text for text in (*told, finished("logs"), finished("config")))


def test_a_stranger_on_the_same_network_is_not_let_in(finished: Compose) -> None:
    """It has the trainer's image, the right address, the logger's public key, and a key that nobody has allowed."""
    said = finished("run", "--rm", "--no-deps", "--entrypoint", "python", "trainer", "-c", STRANGER)
    assert said.strip() == "refused"


def test_the_run_may_be_looked_at_with_the_commands_of_the_readme(finished: Compose) -> None:
    assert ": complete, " in finished.inside("logger", "tensorboard-sidecar", "verify", "/recordings")
    assert "trainer" in finished("run", "--rm", "keys", "list")


def test_the_command_in_an_image_has_the_parts_of_that_image(finished: Compose) -> None:
    assert finished.inside("logger", "tensorboard-sidecar", "--version") == f"tensorboard-sidecar {__version__}\n"
    said = refused(finished, "logger", "tensorboard-sidecar train --help")
    assert said == "error: train is not a part of this installation\n"
    trainer = ("run", "--rm", "--no-deps", "--entrypoint", "tensorboard-sidecar", "trainer")
    assert "nothing is left behind" in finished(*trainer, "status")
    assert "usage: tensorboard-sidecar train " in finished(*trainer, "train", "--help")


@pytest.mark.parametrize(
    ("dockerfile", "changed"),
    [("trainer/Dockerfile", "trainer/loop.py"), ("logger_service/Dockerfile", "protocol/frame.py")],
)
def test_a_change_of_code_is_built_in_seconds(finished: Compose, tmp_path: Path, dockerfile: str, changed: str) -> None:
    """Nothing is installed again: the layers with the libraries are those that were there."""
    assert finished.inspect("logger")["State"]["Running"]  # so the images have been built before
    context = tmp_path / "project"
    for name in CONTEXT:
        copy = partial(shutil.copytree, symlinks=True) if (ROOT / name).is_dir() else shutil.copy2
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, context / name)
    with (context / changed).open("a") as file:
        file.write("# changed\n")
    began = monotonic()
    docker("build", "--quiet", "--file", context / dockerfile, context, seconds=600)
    assert monotonic() - began < REBUILD_MAX_SECONDS
