from typing import Any

import pytest
import torch

from trainer.data import DataError, Vocabulary, make_loader
from trainer.evaluation import THUMBNAIL_SIDE_PX, Evaluation, evaluate
from trainer.losses import contrastive_losses, same_items
from trainer.model.brain import Brain

CPU = torch.device("cpu")
FULL_PRECISION = torch.autocast("cpu", enabled=False)


@pytest.fixture
def brain(tiny_runs: Any) -> Brain:  # noqa: ARG001 - makes the backbone small
    torch.manual_seed(0)
    return Brain(60, embed_dim=16)


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
    found = run(brain, tiny_runs, 6, 4)
    units = [type(found.units)(*(unit[part] for unit in found.units)) for part in (slice(0, 4), slice(4, 6))]
    captions = found.captions[:4], found.captions[4:]
    losses = [contrastive_losses(u, brain.scale(), same_items(c)).total for u, c in zip(units, captions, strict=True)]
    assert found.losses["total"] == pytest.approx((4 * losses[0].item() + 2 * losses[1].item()) / 6, rel=1e-4)


def test_the_model_is_left_in_training_mode_and_unchanged(brain: Brain, tiny_runs: Any) -> None:
    before = {name: value.clone() for name, value in brain.state_dict().items()}
    run(brain, tiny_runs, 4, 4)
    assert all(module.training for module in brain.modules())
    assert all(torch.equal(value, before[name]) for name, value in brain.state_dict().items())


def test_nothing_to_validate_with_is_one_clear_error(brain: Brain) -> None:
    with pytest.raises(DataError, match="nothing to validate with"):
        evaluate(brain, [], CPU, FULL_PRECISION)
