import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tensorboard_sidecar.trainer.checkpoints.random_state import (
    deterministic,
    random_state,
    restore_random_state,
    seed_everything,
)


def draw() -> tuple[float, ...]:
    return (
        random.random(),
        random.gauss(0, 1),
        float(np.random.normal()),  # noqa: NPY002 - the global generator is under test
        float(torch.rand(())),
    )


@pytest.fixture(autouse=True)
def _others_undisturbed() -> Iterator[None]:
    """Other tests draw from the same generators."""
    before = random_state()
    yield
    restore_random_state(before)


def test_equal_seeds_draw_equal_numbers() -> None:
    seed_everything(5)
    first = draw()
    seed_everything(5)
    assert draw() == first


def test_a_restored_state_goes_on_where_it_was_kept(tmp_path: Path) -> None:
    """Through a file, as a checkpoint does, and with a gaussian in store."""
    seed_everything(1)
    draw()
    torch.save(random_state(), tmp_path / "state.pt")
    following = draw()
    draw()
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == following


def test_determinism_holds_on_the_cpu_and_ends_with_the_block() -> None:
    with deterministic(torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(torch.device("cuda")):
        assert not torch.are_deterministic_algorithms_enabled()
