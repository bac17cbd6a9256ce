"""The settings of a training run: their meaning and bounds, checked before training starts."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_type_hints

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, OUTBOX_BYTES, SPILL_BYTES
from tensorboard_sidecar.protocol.run_names import shown_run

BACKBONES: Final = ("resnet18", "resnet34", "resnet50")
PRECISIONS: Final = ("fp32", "bf16", "fp16")
AUTO_RESUME: Final = Path("auto")
INT_MAX: Final = 2**63 - 1
"""The largest int: checkpoints, records and torch keep integers in 64 bits."""

_ENDPOINT: Final = re.compile(r"tcp://(?:[^\s:/]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})|ipc://\S+")
_DEVICE: Final = re.compile(r"auto|cpu|cuda(:[0-9]{1,2})?")


class ConfigError(ValueError):
    """A setting cannot be used; the message names the setting, its value, and the expected values."""


@dataclass(frozen=True)
class Setting:
    """Group and explanation for the help; bounds, for numbers; choices, for names.

    >>> Setting("training", "passes over the data", minimum=1).check("epochs", 3)
    """

    group: str
    explanation: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError for a value out of bounds, or not among the choices."""
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {value!r:.80}; expected one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not self._allows(value):
            bounds = f"{self.minimum} to {self.maximum}" if math.isfinite(self.maximum) else f"{self.minimum} or more"
            shown = value if isinstance(value, float) or abs(value) <= INT_MAX else "of more than 64 bits"
            raise ConfigError(f"{name} is {shown}; expected {bounds}")

    def _allows(self, value: float) -> bool:
        # math.isfinite raises OverflowError for an int that is larger than any float.
        finite = abs(value) <= INT_MAX if isinstance(value, int) else math.isfinite(value)
        return finite and self.minimum <= value <= self.maximum


# The groups of the help, in order.
_data = partial(Setting, "data")
_model = partial(Setting, "model")
_training = partial(Setting, "training")
_telemetry = partial(Setting, "telemetry")
_checkpoints = partial(Setting, "checkpoints")


@dataclass(frozen=True)
class Config:
    """The settings, with their explanations for ``--help``. Raises ConfigError for values that cannot be used.

    >>> Config(run="first", epochs=3).checkpoint_dir
    PosixPath('checkpoints/first')
    """

    root_dir: Annotated[Path, _data("folder of Flickr8k with spoken captions")] = Path("data/flickr8k")
    image_size: Annotated[int, _data("side of the model's pictures, in pixels", 32, 1024)] = 64
    num_workers: Annotated[int, _data("processes that decode files; 0: decode between steps", 0, 256)] = 0
    max_seconds: Annotated[float, _data("seconds of a recording the model hears, from its start", 0.1, 60)] = 10.0

    embed_dim: Annotated[int, _model("size of the shared latent space, a multiple of 4", 8, 8192)] = 128
    backbone: Annotated[str, _model("torchvision network for pictures", choices=BACKBONES)] = "resnet18"
    pretrained: Annotated[bool, _model("start from ImageNet weights (downloaded once)")] = False
    compile: Annotated[bool, _model("compile the model with torch.compile (slow first steps)")] = False

    epochs: Annotated[int, _training("passes over the training pictures", 1, 1_000_000)] = 10
    batch_size: Annotated[int, _training("pairs in a step; each is a negative of the others", 2, 65_536)] = 32
    lr: Annotated[float, _training("peak learning rate of AdamW, after warm-up", 1e-12, 10)] = 1e-3
    weight_decay: Annotated[float, _training("weight decay of AdamW, on matrices only", 0, 10)] = 0.05
    warmup_steps: Annotated[int, _training("steps to the peak; then a cosine to zero", 0)] = 16
    clip_norm: Annotated[float, _training("largest norm of the gradients; a larger norm is scaled", 1e-6)] = 1.0
    precision: Annotated[str, _training("of the forward pass; fp16 scales the loss", choices=PRECISIONS)] = "fp32"
    device: Annotated[str, _training("auto (cuda where there is one), cpu, cuda or cuda:N")] = "auto"
    seed: Annotated[int, _training("seed of weights, order, crops and dropout", 0, 2**32 - 1)] = 0

    run: Annotated[str, _telemetry("name in TensorBoard, / makes folders (default: flickr8k/<time>)")] = ""
    endpoint: Annotated[str, _telemetry("address of the logger; none: record only")] = "tcp://127.0.0.1:5555"
    server_key: Annotated[
        str, _telemetry("the logger's public key, or its .pub file; needed for a logger on another machine")
    ] = ""
    client_key: Annotated[Path | None, _telemetry("file of this trainer's secret key")] = None
    record: Annotated[Path | None, _telemetry("folder of the recording, for replay")] = None
    outbox_bytes: Annotated[
        int, _telemetry("memory for records that the logger has not acknowledged (less where /dev/shm is small)", 2**20)
    ] = OUTBOX_BYTES
    outbox_dir: Annotated[
        Path | None, _telemetry("folder of that memory; in a container, a volume (default: /dev/shm)")
    ] = None
    spill_dir: Annotated[
        Path | None,
        _telemetry("folder on disk for records beyond that memory, or none (default: OUTBOX_DIR, else /var/tmp)"),
    ] = None
    spill_bytes: Annotated[int, _telemetry("largest size of that folder; 0: no records go there", 0)] = SPILL_BYTES
    log_interval: Annotated[int, _telemetry("steps between two points of a training curve", 1)] = 10
    histogram_interval: Annotated[
        int, _telemetry("epochs between two sets of histograms; the first and the last epoch have one", 1)
    ] = 5
    drain_seconds: Annotated[float, _telemetry("longest wait for the logger at the end", 0, 86_400)] = 5.0
    strict: Annotated[bool, _telemetry("telemetry faults end the training (for tests)")] = False

    savedir: Annotated[Path, _checkpoints("folder; a run's checkpoints are in SAVEDIR/RUN")] = Path("checkpoints")
    resume: Annotated[
        Path | None,
        _checkpoints("resume from this last.pt or best.pt, or their folder; auto: from RUN's last.pt, if there is one"),
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
            shown_run(self.run or "default")
        except ProtocolError as error:
            raise ConfigError(str(error)) from error

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of this run's checkpoints, which has the name that TensorBoard shows."""
        return self.savedir / (shown_run(self.run).run if self.run else "")

    def of_training(self) -> dict[str, ParameterValue]:
        """Return the settings that all processes of a run share, on whichever device each of them runs."""
        shared = {name for name, (_, setting) in settings().items() if setting.group in ("model", "training")} - {
            "device"
        }
        return {name: value for name, value in self.parameters().items() if name in shared}

    def parameters(self) -> dict[str, ParameterValue]:
        """Return the settings as plain values, for checkpoints and TensorBoard; a path that is not set is ""."""
        values = {name: getattr(self, name) for name in settings()}
        return {
            name: value if isinstance(value, bool | int | float | str) else str(value or "")
            for name, value in values.items()
        }


def from_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Turn :meth:`Config.parameters` into arguments of Config, without unknown names. Wrong types raise ConfigError."""
    arguments: dict[str, Any] = {}
    for name, (kind, _) in settings().items():
        value = parameters.get(name)
        as_written = (str,) if kind is Path else (int, float) if kind is float else (kind,)
        if type(value) in as_written:
            arguments[name] = value if kind is not Path else Path(str(value)) if value else None
        elif name in parameters:
            raise ConfigError(f"{name} is {value!r:.80}; expected {kind.__name__}")
    return arguments


def check_given(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for given settings that no run can use.

    For a run that resumes, only the bounds are checked: its other settings come from the checkpoint.

    >>> check_given({"epochs": 3, "resume": Path("last.pt"), "endpoint": "none"})
    """
    if given.get("resume") is None:
        Config(**given)
        return
    described = settings()
    for name, value in given.items():
        described[name][1].check(name, value)


def settings() -> dict[str, tuple[type, Setting]]:
    """Return type (Path for one that may be None) and description of each setting, in order."""
    hints = {name: get_args(hint) for name, hint in get_type_hints(Config, include_extras=True).items()}
    return {name: (next(iter(get_args(kind)), kind), setting) for name, (kind, setting) in hints.items()}


def _is_endpoint(endpoint: str) -> bool:
    match = _ENDPOINT.fullmatch(endpoint)
    return match is not None and (match[1] is None or 0 < int(match[1]) < 65_536)
