"""A tiny data set, and recorded training runs on that data set."""

from pathlib import Path
from typing import Any

import pytest
import torchvision
from torch import nn

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Message, Scalars
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, read_flickr8k
from tensorboard_sidecar.trainer.data.synthetic import Settings, write_synthetic
from tensorboard_sidecar.trainer.interrupt import StopSignals
from tensorboard_sidecar.trainer.loop import train
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar.trainer.reporting import TrainingSummary
from tensorboard_sidecar.trainer.settings import Config
from tensorboard_sidecar.trainer.state import Checkpoint


class Recorded:
    """The messages of a run, from its recording."""

    def __init__(self, folder: Path) -> None:
        self.messages: list[tuple[int, Message]] = []
        for segments in sorted({path.parent for path in folder.rglob("*.segment")}):
            reader = RecordingReader(segments)
            while records := reader.read():
                decoded = [(record.step, decode_message(record)) for record in records]
                self.messages += [(step, message) for step, message in decoded if message is not None]
            reader.close()

    def of(self, kind: type) -> list[tuple[int, Any]]:
        """Return the messages of a kind, with their steps."""
        return [(step, message) for step, message in self.messages if isinstance(message, kind)]

    def scalars(self) -> dict[str, list[tuple[int, float]]]:
        """Return step and value of each scalar by tag."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, message in self.of(Scalars):
            for tag, value in message.values.items():
                found.setdefault(tag, []).append((step, value))
        return found


@pytest.fixture
def recorded() -> type[Recorded]:
    """Return the reader of recordings."""
    return Recorded


class TinyRuns:
    """Starts runs on the tiny data set; each attempt records into a folder of its own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.data: Flickr8k = read_flickr8k(root)

    def config(self, run: str = "tiny", **changes: Any) -> Config:
        settings = {
            "root_dir": self.root,
            "run": run,
            "endpoint": "none",
            "record": self.folder / "recordings" / run,
            "savedir": self.folder / "checkpoints",
            "image_size": 32,
            "embed_dim": 16,
            "epochs": 2,
            "batch_size": 8,
            "log_interval": 1,
            "warmup_steps": 2,
            "device": "cpu",
        }
        return Config(**{**settings, **changes})

    def train(
        self,
        config: Config,
        *,
        checkpoint: Checkpoint | None = None,
        stop: StopSignals | None = None,
        progress: Progress | None = None,
    ) -> tuple[TrainingSummary | None, Recorded]:
        attempt = checkpoint.attempt + 1 if checkpoint else 0
        first_step = checkpoint.global_step if checkpoint else 0
        with Telemetry(
            config.run,
            endpoint=None,
            record=self.recording(config, attempt),
            strict=True,
            attempt=attempt,
            first_step=first_step,
            config=config.parameters(),
        ) as telemetry:
            summary = train(config, self.data, telemetry, checkpoint=checkpoint, stop=stop, progress=progress)
        return summary, Recorded(self.recording(config, attempt))

    @staticmethod
    def recording(config: Config, attempt: int) -> Path:
        assert config.record is not None
        return config.record / str(attempt)


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data set of twenty drawn and spoken scenes: sixteen to train on, two each to validate and test."""
    folder = tmp_path_factory.mktemp("scenes")
    write_synthetic(folder, Settings(images=20, seed=1, side_px=32), 1)
    return folder


class SmallBackbone(nn.Sequential):
    """A network for pictures with the outside of a ResNet, a thousandth of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 5, stride=4)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(16, 1000)


@pytest.fixture
def tiny_runs(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyRuns:
    """Return a starter of runs, with a small backbone: a ResNet's checkpoint alone has 150 MB."""
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: SmallBackbone())
    return TinyRuns(scenes, tmp_path)
