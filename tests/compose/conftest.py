"""Images built once, and one stack that many tests look at."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from compose.judge import LOG_INTERVAL, RUN
from support.running.compose import Compose, composed, docker, engine_answers

BUILD_SECONDS = 1500
SETTINGS: Final[dict[str, str | int]] = {
    "RUN_NAME": RUN,
    "BATCH_SIZE": 8,
    "DEMO_IMAGES": 60,
    "TRAINER_FLAGS": f"--log_interval {LOG_INTERVAL} --histogram_interval 2 --embed_dim 32 --num_workers 1 --seed 7",
}


@pytest.fixture(scope="session")
def settings() -> dict[str, str | int]:
    """Return what a test's project has in its .env; the images are built."""
    if not engine_answers():
        why = "no Docker engine with compose answers"
        pytest.fail(why) if "REQUIRE_ENGINE" in os.environ else pytest.skip(why)
    docker("compose", "--env-file", "/dev/null", "build", seconds=BUILD_SECONDS)
    return SETTINGS


@pytest.fixture
def compose(settings: dict[str, str | int], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Compose]:
    """Return a project of the test's own, down yet."""
    name = request.node.name.removeprefix("test_")[:40].strip("_")
    with composed(name, tmp_path, **settings) as compose:
        yield compose


@pytest.fixture(scope="session")
def finished(settings: dict[str, str | int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """Return a project that came up from nothing, and whose run of two epochs has ended; it is still up."""
    with composed("finished", tmp_path_factory.mktemp("finished"), **settings, EPOCHS=2) as compose:
        compose.up()
        compose.wait_for_end()
        yield compose
