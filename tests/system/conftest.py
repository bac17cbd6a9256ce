"""The main job, run once for all its tests: data, trainer, logger, TensorBoard; two epochs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.running.job import RUN, TRAINER, Job
from support.running.programs import run_command, running_logger
from support.running.tensorboard import Loader, TensorBoard, running_tensorboard


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "flickr8k"
    made = run_command("demo-data", folder, "--images", 60, "--seed", 3)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def job(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    local = folder / "local"
    with running_logger(folder) as logger:
        options = ("--root_dir", data, "--run", RUN, "--endpoint", logger.endpoint, "--record", local)
        trained = run_command("train", *options, "--savedir", folder / "checkpoints", *map(str, TRAINER))
        assert trained.returncode == 0, trained.stderr
        assert logger.stop() == 0
    return Job(data, logger, local, trained.stdout)


@pytest.fixture(scope="session", params=["fast", "slow"])
def tensorboard(
    request: pytest.FixtureRequest, job: Job, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TensorBoard]:
    loader: Loader = request.param
    with running_tensorboard(job.logger.logdir, tmp_path_factory.mktemp("tb") / "log", loader) as tensorboard:
        tensorboard.wait_for(
            "the run's last values", lambda tb: "hparam/best_val_loss" in tb.get("plugin/scalars/tags").get(RUN, {})
        )
        yield tensorboard
