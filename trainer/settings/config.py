"""Every setting of a training run, checked before anything is started."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_type_hints

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.protocol.outbox.destination import NO_LOGGER
from tensorboard_sidecar.protocol.outbox.location import OUTBOX_BYTES, SPILL_BYTES
from tensorboard_sidecar.trainer.settings.setting import ConfigError, Setting

BACKBONES: Final = ("resnet18", "resnet34", "resnet50")
PRECISIONS: Final = ("fp32", "bf16", "fp16")
AUTO_RESUME: Final = Path("auto")
_ENDPOINT: Final = re.compile(r"tcp://(?:[^\s:/]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})|ipc://\S+")
_DEVICE: Final = re.compile(r"auto|cpu|cuda(:[0-9]{1,2})?")


@dataclass(frozen=True)
class Config:
    """The settings; each explains itself in ``--help``. Raises ConfigError for values that cannot be used."""

    root_dir: Annotated[Path, Setting("data", "Flickr8k with spoken captions")] = Path("data/flickr8k")
    image_size: Annotated[int, Setting("data", "side of the pictures the model sees, in pixels", 32, 1024)] = 64
    num_workers: Annotated[int, Setting("data", "processes that decode; 0 decodes between the steps", 0, 256)] = 0
    max_seconds: Annotated[float, Setting("data", "of a recording that are heard, from its start", 0.1, 60)] = 10.0

    embed_dim: Annotated[int, Setting("model", "size of the shared latent space, a multiple of 4", 8, 8192)] = 128
    backbone: Annotated[str, Setting("model", "torchvision network for pictures", choices=BACKBONES)] = "resnet18"
    pretrained: Annotated[bool, Setting("model", "start from ImageNet weights (downloaded once)")] = False
    compile: Annotated[bool, Setting("model", "compile the model with torch.compile (slow first steps)")] = False

    epochs: Annotated[int, Setting("training", "passes over the training pictures", 1, 1_000_000)] = 10
    batch_size: Annotated[int, Setting("training", "pairs a step; each is the others' negative", 2, 65_536)] = 32
    lr: Annotated[float, Setting("training", "peak learning rate of AdamW, after warm-up", 1e-12, 10)] = 1e-3
    weight_decay: Annotated[float, Setting("training", "of AdamW, on matrices only", 0, 10)] = 0.05
    warmup_steps: Annotated[int, Setting("training", "steps to the peak; then a cosine to zero", 0)] = 16
    clip_norm: Annotated[float, Setting("training", "gradients are scaled down to this norm", 1e-6)] = 1.0
    precision: Annotated[str, Setting("training", "of the forward pass; fp16 scales its loss", choices=PRECISIONS)] = (
        "fp32"
    )
    device: Annotated[str, Setting("training", "auto (cuda where there is one), cpu, cuda or cuda:N")] = "auto"
    seed: Annotated[int, Setting("training", "of weights, order, crops and dropout", 0, 2**32 - 1)] = 0

    run: Annotated[str, Setting("telemetry", "name in TensorBoard, / makes folders (default: flickr8k/<time>)")] = ""
    endpoint: Annotated[str, Setting("telemetry", "address of the logger; none to record only")] = (
        "tcp://127.0.0.1:5555"
    )
    server_key: Annotated[
        str, Setting("telemetry", "the logger's public key, or the file with it; needed beyond this machine")
    ] = ""
    client_key: Annotated[Path | None, Setting("telemetry", "file of this trainer's secret key, for the same")] = None
    record: Annotated[Path | None, Setting("telemetry", "folder to record into, for replay")] = None
    outbox_bytes: Annotated[
        int, Setting("telemetry", "memory for what the logger has not taken yet (less where /dev/shm is small)", 2**20)
    ] = OUTBOX_BYTES
    outbox_dir: Annotated[
        Path | None, Setting("telemetry", "folder for that memory, in a container a volume (default: /dev/shm)")
    ] = None
    spill_dir: Annotated[
        Path | None,
        Setting("telemetry", "folder on disk for the rest, or none (default: OUTBOX_DIR, else /var/tmp)"),
    ] = None
    spill_bytes: Annotated[int, Setting("telemetry", "the most that goes there; 0 for nothing", 0)] = SPILL_BYTES
    log_interval: Annotated[int, Setting("telemetry", "steps between two points of a training curve", 1)] = 10
    histogram_interval: Annotated[
        int, Setting("telemetry", "epochs between two sets of histograms; the first and the last have one", 1)
    ] = 5
    drain_seconds: Annotated[float, Setting("telemetry", "at the end, wait this long for the logger", 0, 86_400)] = 5.0
    strict: Annotated[bool, Setting("telemetry", "let telemetry faults end the training (for tests)")] = False

    savedir: Annotated[Path, Setting("checkpoints", "folder; a run's are in SAVEDIR/RUN")] = Path("checkpoints")
    resume: Annotated[
        Path | None,
        Setting(
            "checkpoints", "go on from this last.pt or best.pt, or their folder; auto: from RUN's, if there is one"
        ),
    ] = None

    def __post_init__(self) -> None:
        for name, (_, setting) in settings().items():
            setting.check(name, getattr(self, name))
        if self.embed_dim % 4:
            raise ConfigError(f"embed_dim is {self.embed_dim}; expected a multiple of 4, one part an attention head")
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(f"device is {self.device!r:.80}; expected auto, cpu, cuda or cuda:N")
        if self.endpoint == NO_LOGGER and self.record is None:
            raise ConfigError("endpoint is none and record is not given: no telemetry would be kept; add --record DIR")
        if self.endpoint != NO_LOGGER and not _is_endpoint(self.endpoint):
            raise ConfigError(f"endpoint is {self.endpoint!r:.80}; expected tcp://HOST:PORT, ipc://PATH or none")
        try:
            check_run(self.run or "default")
        except ProtocolError as error:
            raise ConfigError(str(error)) from error

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of this run's checkpoints."""
        return self.savedir / self.run

    def of_training(self) -> dict[str, ParameterValue]:
        """Return what all processes of a run have in common, wherever each of them runs."""
        groups = {name: setting.group for name, (_, setting) in settings().items()}
        shared = {name for name, group in groups.items() if group in ("model", "training")} - {"device"}
        return {name: value for name, value in self.parameters().items() if name in shared}

    def parameters(self) -> dict[str, ParameterValue]:
        """Return the settings as plain values, for checkpoints and TensorBoard; a path that is not set is empty."""
        values = {name: getattr(self, name) for name in settings()}
        return {
            name: value if isinstance(value, bool | int | float | str) else str(value or "")
            for name, value in values.items()
        }


def from_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what :meth:`Config.parameters` returned back into arguments of Config, leaving out what it does not know.

    Raises ConfigError for a value of another type.
    """
    arguments: dict[str, Any] = {}
    for name, (kind, _) in settings().items():
        value = parameters.get(name)
        as_written = (str,) if kind is Path else (int, float) if kind is float else (kind,)
        if type(value) in as_written:
            arguments[name] = value if kind is not Path else Path(str(value)) if value else None
        elif name in parameters:
            raise ConfigError(f"{name} is {value!r:.80}; expected {kind.__name__}")
    return arguments


def settings() -> dict[str, tuple[type, Setting]]:
    """Return type (Path for one that may be None) and description of each setting, in order."""
    hints = {name: get_args(hint) for name, hint in get_type_hints(Config, include_extras=True).items()}
    return {name: (next(iter(get_args(kind)), kind), setting) for name, (kind, setting) in hints.items()}


def _is_endpoint(endpoint: str) -> bool:
    match = _ENDPOINT.fullmatch(endpoint)
    return match is not None and (match[1] is None or 0 < int(match[1]) < 65_536)
