import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.records import expected
from torch.nn import functional

from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.data.loader import Batch, collate, make_loader
from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.data.vocabulary import Vocabulary
from tensorboard_sidecar.trainer.evaluation import (
    THUMBNAIL_SIDE_PX,
    Evaluation,
    alignments,
    best_ranks,
    chance_at_1,
    evaluate,
    recalls,
)
from tensorboard_sidecar.trainer.losses import contrastive_losses, same_items
from tensorboard_sidecar.trainer.model import Brain, Latents

CPU = torch.device("cpu")
FULL_PRECISION = torch.autocast("cpu", enabled=False)


@pytest.fixture
def brain(tiny_runs: Any) -> Brain:  # noqa: ARG001 - makes the backbone small
    torch.manual_seed(0)
    return Brain(60, embed_dim=16)


def pictures(tiny_runs: Any) -> tuple[Pair, ...]:
    """Return a pair of each picture of the training split."""
    return tuple(tiny_runs.data.train[::5])


def batches_of(tiny_runs: Any, pairs: int, batch_size: int) -> Iterator[Batch]:
    chosen = pictures(tiny_runs)[:pairs]
    vocabulary = Vocabulary.build(pair.caption for pair in chosen)
    return make_loader(chosen, vocabulary, batch_size=batch_size, seed=0, train=False, image_side_px=32).epoch(0)


def run(brain: Brain, tiny_runs: Any, pairs: int, batch_size: int) -> Evaluation:
    """Evaluate on the first pictures of the training split, of which there are enough."""
    chosen = tiny_runs.data.train[: 5 * pairs]
    vocabulary = Vocabulary.build(pair.caption for pair in chosen)
    loader = make_loader(chosen, vocabulary, batch_size=batch_size, seed=0, train=False, image_side_px=32)
    return evaluate(brain, loader.epoch(0), CPU, FULL_PRECISION)


def test_every_picture_is_there_once_whatever_the_batch_size(brain: Brain, tiny_runs: Any) -> None:
    whole, parts = run(brain, tiny_runs, 6, 6), run(brain, tiny_runs, 6, 4)
    assert len(set(whole.image_names)) == 6
    assert whole.image_names == parts.image_names
    assert whole.captions == parts.captions
    for a, b in zip(whole.units, parts.units, strict=True):
        assert a.shape == (6, 16)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert whole.thumbnails.shape == (6, 3, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX)
    assert whole.thumbnails.dtype == torch.uint8
    assert whole.chance == pytest.approx(1 / 6)
    assert whole.recalls == pytest.approx(parts.recalls)


def test_losses_are_weighted_by_the_size_of_their_batch(brain: Brain, tiny_runs: Any) -> None:
    found = run(brain, tiny_runs, 7, 4)
    keys = torch.arange(7)
    parts = slice(0, 3), slice(3, 7)
    losses = [
        contrastive_losses(type(found.units)(*(unit[part] for unit in found.units)), brain.scale(), same_items(k)).total
        for part, k in ((part, keys[part]) for part in parts)
    ]
    assert found.losses["total"] == pytest.approx((3 * losses[0].item() + 4 * losses[1].item()) / 7, rel=1e-4)


def test_captions_that_the_model_cannot_tell_apart_are_right_answers_to_each_other(
    brain: Brain, tiny_runs: Any
) -> None:
    """They differ in spelling alone: the text encoder sees the same tokens."""
    chosen = [
        replace(pair, caption=caption)
        for caption, pair in zip(("Two dogs .", "two dogs", "A cat"), pictures(tiny_runs), strict=False)
    ]
    loader = make_loader(chosen, Vocabulary(("two", "dogs", "a")), batch_size=2, seed=0, train=False, image_side_px=32)
    found = evaluate(brain, loader.epoch(0), CPU, FULL_PRECISION)
    assert found.chance == pytest.approx((2 + 2 + 1) / 9)


def test_a_batch_of_one_pair_is_shown_and_counts_for_no_loss(brain: Brain, tiny_runs: Any) -> None:
    """A single pair has a loss of zero, which no later model could beat."""
    whole, alone = (list(batches_of(tiny_runs, pairs, 4)) for pairs in (4, 1))
    lost = collate([])
    found = evaluate(brain, [lost, *whole, *alone], CPU, FULL_PRECISION)
    assert found.losses == evaluate(brain, whole, CPU, FULL_PRECISION).losses
    assert len(found.captions) == len(found.thumbnails) == len(found.units.text) == 5
    assert found.first is whole[0]
    with pytest.raises(DataError, match="no two pairs"):
        evaluate(brain, alone, CPU, FULL_PRECISION)


def test_pictures_are_let_go_of_batch_by_batch(brain: Brain, tiny_runs: Any) -> None:
    """Only the first batch is kept in full: a validation split of large pictures takes a gigabyte."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def noted() -> Iterator[Batch]:
        for batch in batches_of(tiny_runs, 8, 2):
            alive.append(weakref.ref(batch.images))
            yield batch
            del batch
            assert sum(images() is not None for images in alive) <= 2

    evaluate(brain, noted(), CPU, FULL_PRECISION)
    assert len(alive) == 4


def test_the_model_is_left_in_training_mode_and_unchanged(brain: Brain, tiny_runs: Any) -> None:
    before = {name: value.clone() for name, value in brain.state_dict().items()}
    run(brain, tiny_runs, 4, 4)
    assert all(module.training for module in brain.modules())
    assert all(torch.equal(value, before[name]) for name, value in brain.state_dict().items())


def test_nothing_to_validate_with_is_one_clear_error(brain: Brain) -> None:
    with pytest.raises(DataError, match="nothing to validate with"):
        evaluate(brain, [], CPU, FULL_PRECISION)


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
