import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.records import expected
from torch.nn import functional

from tensorboard_sidecar.trainer.losses import same_items
from tensorboard_sidecar.trainer.model import Latents
from tensorboard_sidecar.trainer.retrieval import alignments, best_ranks, chance_at_1, recalls

OWN = torch.eye(3, dtype=torch.bool)


def test_rank_counts_the_wrong_answers_before_the_right_one() -> None:
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.9, 0.5, 0.2], [0.9, 0.8, 0.7]])
    assert best_ranks(similarity, OWN).tolist() == [1, 2, 3]


def test_ties_count_against_the_model() -> None:
    """A model that maps all inputs to the same point has a recall of zero."""
    assert best_ranks(torch.ones(3, 3), OWN).tolist() == [3, 3, 3]


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 1)])
def test_nan_is_no_success(row: int, column: int) -> None:
    similarity = torch.eye(3)
    similarity[row, column] = torch.nan
    assert best_ranks(similarity, OWN)[0] > 1


def test_any_right_answer_will_do() -> None:
    relevant = same_items(torch.tensor([1, 2, 1]))
    similarity = torch.tensor([[0.1, 0.5, 0.9], [0.1, 0.5, 0.4], [0.3, 0.5, 0.2]])
    assert best_ranks(similarity, relevant).tolist() == [1, 1, 2]


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4), min_size=4, max_size=4))
def test_ranks_agree_with_sorting(rows: list[list[float]]) -> None:
    ranks = best_ranks(torch.tensor(rows), torch.eye(4, dtype=torch.bool)).tolist()
    for number, row in enumerate(rows):
        wrong = [value for column, value in enumerate(row) if column != number]
        assert ranks[number] == 1 + sum(value >= row[number] for value in wrong)


def test_perfect_embeddings_are_always_found() -> None:
    units = Latents(*(torch.eye(12),) * 4)
    found = recalls(units, torch.eye(12, dtype=torch.bool))
    assert set(found) == {f"{direction}/recall_at_{k}" for direction in expected.DIRECTIONS for k in (1, 5, 10)}
    assert set(found.values()) == {1.0}


def test_directions_are_not_mixed_up() -> None:
    """Every text finds its picture, but every picture is nearest to the first text."""
    text = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    image = torch.tensor([[1.0, 0.0], [0.9, 0.1]])
    found = recalls(Latents(text, image, text, text), torch.eye(2, dtype=torch.bool))
    assert found["text_to_image/recall_at_1"] == 1.0
    assert found["image_to_text/recall_at_1"] == 0.5
    assert found["text_to_audio/recall_at_1"] == 1.0
    assert found["image_to_text/recall_at_5"] == 1.0


def test_chance_is_the_share_of_right_answers() -> None:
    assert chance_at_1(torch.eye(50, dtype=torch.bool)) == pytest.approx(0.02)


def test_alignment_tells_pairs_from_everything() -> None:
    torch.manual_seed(0)
    text, image = (functional.normalize(torch.randn(6, 4), dim=1) for _ in range(2))
    found = alignments(Latents(text, image, text, text))
    similarity = text @ image.T
    assert found["text_vs_image/diagonal_similarity"] == pytest.approx(similarity.diagonal().mean().item(), abs=1e-6)
    assert found["text_vs_image/mean_similarity"] == pytest.approx(similarity.mean().item(), abs=1e-6)
    assert found["text_vs_audio/diagonal_similarity"] == pytest.approx(1.0)
    assert len(found) == 6
