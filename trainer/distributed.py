"""Data-parallel training: each process trains on a shard of the images, and gradients are averaged.

    torchrun --nproc_per_node 2 -m -- tensorboard_sidecar train --run NAME ...

Only rank 0 validates, saves checkpoints and logs the run's curves; every other rank logs its training curves as a
separate stream. Batch-norm statistics are not synchronized; checkpoints keep those of rank 0.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed

from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.settings import ConfigError

T = TypeVar("T")


class Placement(NamedTuple):
    """This process among those of the run; ``local_rank`` counts on this machine and selects the GPU."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1


def read_placement(environment: Mapping[str, str] = os.environ) -> Placement:
    """Return the placement from torchrun's environment variables; without them, the process is the only one.

    Raises ConfigError for variables that are incomplete or contradict each other.
    """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    meeting = ("MASTER_ADDR", "MASTER_PORT")
    if not any(name in environment for name in names):
        return Placement()
    try:
        placement = Placement(*(int(environment[name]) for name in names))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{', '.join(names)} are not all set to numbers: start with torchrun, or unset them"
        ) from error
    if not 0 <= placement.local_rank <= placement.rank < placement.world_size:
        raise ConfigError(f"{placement} is impossible: expected 0 <= LOCAL_RANK <= RANK < WORLD_SIZE")
    if placement.world_size > 1 and not all(environment.get(name) for name in meeting):
        raise ConfigError(f"WORLD_SIZE is set, but not {' and '.join(meeting)}: start with torchrun, or unset it")
    return placement


def choose_device(wanted: str, placement: Placement) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises ConfigError for a missing GPU."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device(f"cuda:{placement.local_rank}" if wanted in ("auto", "cuda") else wanted)
    if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device is {wanted}, but torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device


@contextmanager
def process_group(placement: Placement, device: torch.device) -> Iterator[None]:
    """Connect the processes for the duration of the block; do nothing for a single process."""
    if placement.world_size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def shard(pairs: tuple[Pair, ...], placement: Placement) -> tuple[Pair, ...]:
    """Return the pairs of every ``world_size``-th image; all ranks get equally many images, so equally many steps."""
    images = list(dict.fromkeys(pair.image_name for pair in pairs))
    own = set(images[placement.rank :: placement.world_size][: len(images) // placement.world_size])
    return tuple(pair for pair in pairs if pair.image_name in own)


def average_gradients(parameters: Iterable[Tensor], placement: Placement, *, counts: bool = True) -> None:
    """Replace each gradient by its mean over the ranks whose gradient ``counts``, in one all-reduce.

    A missing gradient is zeros. A rank without a loss takes part too: if ranks made different numbers of all-reduces,
    gradients of different steps would be mixed, or a rank would wait forever.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
    if placement.world_size > 1:
        counted = gradients[0].new_full((1,), float(counts))
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), counted])
        distributed.all_reduce(flat)
        means = flat[:-1] / flat[-1].clamp(min=1)
        gradients = [
            mean.view_as(gradient)
            for mean, gradient in zip(torch.split(means, [g.numel() for g in gradients]), gradients, strict=True)
        ]
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient


def gather(value: T, placement: Placement) -> list[T]:
    """Return the values of all ranks in rank order; every rank must make this call."""
    if placement.world_size == 1:
        return [value]
    values: list[Any] = [None] * placement.world_size
    distributed.all_gather_object(values, value)
    return values


def check_agreement(facts: Mapping[str, object], placement: Placement) -> None:
    """Raise ConfigError on every rank when the ranks differ in a fact: they would not train the same model."""
    first, *others = gather(dict(facts), placement)
    differing = [name for name, value in first.items() if any(other.get(name) != value for other in others)]
    if differing:
        raise ConfigError(
            f"the processes of this run differ in {', '.join(differing)}:"
            " give all of them the same settings, data and checkpoint"
        )
