"""Several processes on one run: each trains on its share of the pictures, and the gradients are averaged.

    torchrun --nproc_per_node 2 -m -- trainer --run NAME ...

There is no more to it: rank 0 alone validates, keeps checkpoints and logs the run's curves; the other ranks log
their training curves as streams of their own. Batch statistics are each rank's own, and rank 0's are kept.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, distributed

from trainer.data import Pair
from trainer.setting import ConfigError


class Placement(NamedTuple):
    """Which of how many processes this is; ``local_rank`` counts on this machine and picks the GPU."""

    rank: int = 0
    local_rank: int = 0
    world_size: int = 1


def read_placement(environment: Mapping[str, str] = os.environ) -> Placement:
    """Return what torchrun says in the environment; a process started by itself is alone.

    Raises ConfigError for numbers that make no sense.
    """
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if not any(name in environment for name in names):
        return Placement()
    try:
        placement = Placement(*(int(environment[name]) for name in names))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{', '.join(names)} are not all set to numbers: start with torchrun, or unset them"
        ) from error
    if not 0 <= placement.local_rank <= placement.rank < placement.world_size:
        raise ConfigError(f"{placement} cannot be: expected 0 <= LOCAL_RANK <= RANK < WORLD_SIZE")
    return placement


def choose_device(wanted: str, placement: Placement) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Raises ConfigError where there is none such."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device(f"cuda:{placement.local_rank}" if wanted in ("auto", "cuda") else wanted)
    if not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device is {wanted}, but torch sees {torch.cuda.device_count()} GPUs here; use --device cpu")
    return device


@contextmanager
def process_group(placement: Placement, device: torch.device) -> Iterator[None]:
    """Connect the processes for as long as the block lasts; alone, do nothing."""
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


def share(pairs: tuple[Pair, ...], placement: Placement) -> tuple[Pair, ...]:
    """Return the pairs of every ``world_size``-th image; all ranks get as many images, and so make as many steps."""
    images = list(dict.fromkeys(pair.image_name for pair in pairs))
    own = set(images[placement.rank :: placement.world_size][: len(images) // placement.world_size])
    return tuple(pair for pair in pairs if pair.image_name in own)


def average_gradients(parameters: Iterable[Tensor], placement: Placement) -> None:
    """Replace each gradient by its mean over all ranks, in one exchange; alone, do nothing."""
    if placement.world_size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= placement.world_size
    means = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, mean in zip(gradients, means, strict=True):
        gradient.copy_(mean.view_as(gradient))
