from pathlib import Path

import pytest
import torch

from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.distributed import (
    Placement,
    average_gradients,
    check_agreement,
    choose_device,
    gather,
    process_group,
    read_placement,
    shard,
)
from tensorboard_sidecar.trainer.settings import ConfigError


def test_a_process_started_by_itself_is_alone() -> None:
    assert read_placement({"PATH": "/bin"}) == Placement(rank=0, local_rank=0, world_size=1)


def test_torchrun_says_which_process_this_is() -> None:
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    assert read_placement({"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", **meeting}) == Placement(5, 1, 8)
    assert read_placement({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}) == Placement()


def test_numbers_without_a_place_to_meet_are_refused() -> None:
    """As a cluster's scheduler leaves them in the environment of every process."""
    numbers = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    for environment in (numbers, {**numbers, "MASTER_ADDR": "host"}):
        with pytest.raises(ConfigError, match="not MASTER_ADDR and MASTER_PORT: start with torchrun"):
            read_placement(environment)


@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1"},
        {"RANK": "x", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "2", "LOCAL_RANK": "0", "WORLD_SIZE": "2"},
        {"RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": "2"},
        {"RANK": "0", "LOCAL_RANK": "-1", "WORLD_SIZE": "2"},
    ],
)
def test_a_placement_that_cannot_be_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="WORLD_SIZE"):
        read_placement(environment)


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu", Placement()) == torch.device("cpu")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"torch sees \d GPUs here"):
        choose_device("cuda:9", Placement())


def test_shares_divide_the_images_and_are_equally_large() -> None:
    """Unequal shares would leave the ranks waiting for each other in the last step."""
    pairs = tuple(Pair(Path(), Path(), "", f"{image}.jpg", index) for image in range(7) for index in range(2))
    shares = [shard(pairs, Placement(rank, rank, 3)) for rank in range(3)]
    images = [{pair.image_name for pair in each} for each in shares]
    assert [len(each) for each in images] == [2, 2, 2]
    assert len(set.union(*images)) == 6
    assert shard(pairs, Placement()) == pairs


def test_alone_nothing_is_connected_or_changed() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    with process_group(Placement(), torch.device("cpu")):
        average_gradients([parameter], Placement())
        assert not torch.distributed.is_initialized()
    assert parameter.grad.tolist() == [1.0, 1.0]


def test_alone_everybody_agrees() -> None:
    assert gather("said", Placement()) == ["said"]
    check_agreement({"lr": 0.1}, Placement())
