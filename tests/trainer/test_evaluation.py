import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from tensorboard_sidecar.trainer.data import Batch, DataError, Pair, Vocabulary, make_loader
from tensorboard_sidecar.trainer.data.batch import collate
from tensorboard_sidecar.trainer.evaluation import THUMBNAIL_SIDE_PX, Evaluation, evaluate
from tensorboard_sidecar.trainer.losses import contrastive_losses, same_items
from tensorboard_sidecar.trainer.model import Brain

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
