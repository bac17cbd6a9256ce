import pytest
import torch

from tensorboard_sidecar.trainer.model import Latents
from tensorboard_sidecar.trainer.reporting import caption_table, projector_pairs


def test_captions_stand_beside_the_numbers_of_their_pictures() -> None:
    assert caption_table(("a dog", "two cats")).split("\n") == [
        "| image | caption |",
        "| ---: | :--- |",
        "| 1 | a dog |",
        "| 2 | two cats |",
    ]


def test_what_would_end_a_cell_or_a_row_is_escaped() -> None:
    rows = caption_table(("a | b\nc\\",)).split("\n")
    assert rows[2:] == [r"| 1 | a \| b c\\ |"]


def test_a_caption_is_no_markdown() -> None:
    assert caption_table(("_two_ *dogs* [run](x)",)).split("\n")[2] == r"| 1 | \_two\_ \*dogs\* \[run\](x) |"


@pytest.mark.parametrize(("dimensions", "pairs"), [(128, 2_000), (4_096, 646)])
def test_the_joint_space_of_many_dimensions_fits_a_record(dimensions: int, pairs: int) -> None:
    """4,000 points of 4,096 dimensions with their pictures are 78 MB, and a record takes 64 MiB."""
    units = Latents(*(torch.zeros(3_000, dimensions) for _ in range(4)))
    assert projector_pairs(units, torch.zeros(3_000, 3, 32, 32)) == pairs
