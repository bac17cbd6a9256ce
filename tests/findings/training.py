"""A real training of the reference trainer, small and sick or healthy, that leaves a recording.

    PYTHONPATH=tests python -m findings.training SICKNESS --seed 3 --output FOLDER

The networks are small, pictures have 32 pixels and recordings two seconds, so that a step takes some 50 ms of one core.
Everything else is the reference trainer: data set, loader, model, losses, schedule, evaluation, reports.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is loaded, see trainer/commands.py

import torch
import torchvision
from findings.sicknesses import CLOCK, HEALTHY, SICKNESSES, STEPS
from torch import nn

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.telemetry import pipeline, scalar_calls
from tensorboard_sidecar.trainer import loop, model
from tensorboard_sidecar.trainer.data import loader
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, read_flickr8k
from tensorboard_sidecar.trainer.data.synthetic import Settings, write_synthetic
from tensorboard_sidecar.trainer.interrupt import Interrupted, StopSignals
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.settings import Config
from tensorboard_sidecar.trainer.state import Checkpoint, load_checkpoint

DATA: Final = Settings(images=640, side_px=64)
SMALL: Final = {
    "image_size": 32,
    "max_seconds": 2.0,
    "epochs": 10,
    "batch_size": 16,
    "log_interval": 1,
    "histogram_interval": 1,
    "device": "cpu",
}
# Crops of a picture that are decoded once and kept.
CROPS: Final = 4
RESUMED: Final = "resumed"
DEMO: Final = "demo"


class SmallBackbone(nn.Sequential):
    """A network for pictures with the outside of a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        for number, (channels_in, channels) in enumerate(((3, 16), (16, 32), (32, 64))):
            self.add_module(f"conv{number}", nn.Conv2d(channels_in, channels, 3, stride=2, padding=1))
            self.add_module(f"bn{number}", nn.BatchNorm2d(channels))
            self.add_module(f"relu{number}", nn.ReLU())
        self.avgpool, self.flatten, self.fc = nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 1000)


@cache
def _decoded_once() -> tuple[Any, Any]:
    return cache(loader.read_picture), cache(loader.read_recording)


@contextmanager
def small_networks() -> Iterator[None]:
    """Make the trainer small and fast, and its times independent of the machine's other work.

    Networks are small, files are decoded once for all runs of a process, and telemetry reads CLOCK.
    """
    read_picture, read_recording = _decoded_once()

    def some_crop(path: Path, side_px: int, crop_seed: int | None) -> torch.Tensor:
        picture: torch.Tensor = read_picture(path, side_px, None if crop_seed is None else crop_seed % CROPS)
        return picture

    text, audio = (
        partial(model.TextEncoder, width=48, layers=1),
        partial(model.AudioEncoder, width=48, bands=32, blocks=3),
    )
    with ExitStack() as stack:
        stack.enter_context(patch.object(torchvision.models, "get_model", lambda *_, **__: SmallBackbone()))
        stack.enter_context(patch.object(model, "TextEncoder", text))
        stack.enter_context(patch.object(model, "AudioEncoder", audio))
        stack.enter_context(patch.object(model, "HOP_SECONDS", 0.032))
        stack.enter_context(patch.object(loader, "read_picture", some_crop))
        stack.enter_context(patch.object(loader, "read_recording", read_recording))
        stack.enter_context(patch.object(pipeline, "time_ns", CLOCK))
        stack.enter_context(patch.object(scalar_calls, "time_ns", CLOCK))
        # Deterministic algorithms fill each new tensor with NaN: a tenth of the time, and no result depends on it.
        torch.utils.deterministic.fill_uninitialized_memory = False
        stack.callback(setattr, torch.utils.deterministic, "fill_uninitialized_memory", True)
        yield


class _StopAtStep(StopSignals):
    """A SIGTERM between two steps."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._left = step

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Interrupted(signal.SIGTERM)


def data_set(folder: Path, kind: Settings = DATA) -> Flickr8k:
    """Return the drawn and spoken data set in ``folder``, which is made when it is not there."""
    write_synthetic(folder, kind)
    return read_flickr8k(folder)


def train_once(name: str, seed: int, data: Flickr8k, output: Path, **changes: Any) -> None:
    """Train one run, sick or healthy, and leave its recordings in ``output``, which appears when they are whole.

    ``changes`` are changes of the settings.
    """
    unfinished = output.with_name(f"{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    torch.set_num_threads(1)
    sickness = next((one for one in SICKNESSES if one.name == name), None)
    if sickness is not None:
        with small_networks(), sickness.change():
            _train(
                settings({**sickness.settings, **changes}, seed, unfinished), sickness.change_data(data, Random(seed))
            )
    elif name == DEMO:
        _train(settings({"device": "cpu", **changes}, seed, unfinished, small={}), data)
    elif name == RESUMED:
        config = settings(changes, seed, unfinished)
        with small_networks():
            try:
                _train(config, data, stop=_StopAtStep(STEPS // 2 + 7))
            except Interrupted:
                _train(config, data, load_checkpoint(config.checkpoint_dir))
    else:
        with small_networks():
            _train(settings({**HEALTHY[name], **changes}, seed, unfinished), data)
    shutil.rmtree(unfinished / "checkpoints")
    unfinished.rename(output)


def settings(changes: Mapping[str, Any], seed: int, folder: Path, small: Mapping[str, Any] = SMALL) -> Config:
    """Return the settings of a run that records into ``folder``."""
    places = {"endpoint": "none", "record": folder / "recordings", "savedir": folder / "checkpoints"}
    return Config(**{**small, **places, "run": "run", "seed": seed, **changes})


def _train(
    config: Config, data: Flickr8k, checkpoint: Checkpoint | None = None, stop: StopSignals | None = None
) -> None:
    progress = Progress(sys.stdout if multiprocessing.parent_process() is None else None)
    with Telemetry(
        config.run,
        endpoint=None,
        record=config.record,
        strict=True,
        attempt=checkpoint.attempt + 1 if checkpoint else 0,
        first_step=checkpoint.global_step if checkpoint else 0,
        config=config.parameters(),
    ) as telemetry:
        loop.train(config, data, telemetry, checkpoint, progress=progress, stop=stop)


def main() -> None:
    """Train one run and judge it."""
    parser = argparse.ArgumentParser("python -m findings.training", description=__doc__)
    names = (*(one.name for one in SICKNESSES), *HEALTHY, RESUMED, DEMO)
    parser.add_argument("name", choices=names)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("/tmp/sick/data"))
    options = parser.parse_args()
    train_once(options.name, options.seed, data_set(options.data), options.output)


if __name__ == "__main__":
    main()
