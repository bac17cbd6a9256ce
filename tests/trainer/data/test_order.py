from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.flickr8k import Pair
from tensorboard_sidecar.trainer.data.order import Order, SampleSpec


def _pairs(images: int, captions: int = 5) -> list[Pair]:
    return [
        Pair(Path(f"{i}.jpg"), Path(f"{i}_{k}.wav"), f"caption {k}", f"{i}.jpg", k)
        for i in range(images)
        for k in range(captions)
    ]


def _epoch(order: Order, epoch: int, first_batch: int = 0) -> list[list[SampleSpec]]:
    order.epoch, order.first_batch = epoch, first_batch
    return list(order)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 3), st.booleans())
def test_no_image_comes_twice_in_an_epoch(images: int, batch_size: int, epoch: int, train: bool) -> None:
    pairs = _pairs(images)
    order = Order(pairs, batch_size=batch_size, seed=0, train=train)
    batches = _epoch(order, epoch)
    assert len(batches) == len(order) > 0
    seen = Counter(pairs[draw.pair].image_name for batch in batches for draw in batch)
    assert set(seen.values()) == {1}
    left_out = images - len(seen)
    assert left_out == (images % batch_size if train and images >= batch_size else 0)
    if train and images >= batch_size:
        assert {len(batch) for batch in batches} == {batch_size}
    assert order.rows == sum(len(batch) for batch in batches)


@given(st.integers(2, 200), st.integers(2, 40))
def test_validation_batches_are_equal_but_for_a_row_and_near_the_size_asked_for(images: int, batch_size: int) -> None:
    """Rows of a short last batch would have few negatives, and a misleadingly low loss."""
    sizes = [len(batch) for batch in _epoch(Order(_pairs(images, 1), batch_size=batch_size, seed=0, train=False), 0)]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= min(images, max(2, batch_size * 2 // 3))
    assert max(sizes) <= batch_size * 3 / 2


def test_an_epoch_depends_on_the_seed_and_its_number_alone() -> None:
    pairs = _pairs(30)
    one, other = (Order(pairs, batch_size=4, seed=3, train=True) for _ in range(2))
    assert _epoch(one, 7) == _epoch(other, 7)
    _epoch(other, 2)
    assert _epoch(one, 7) == _epoch(other, 7)
    assert _epoch(one, 7) != _epoch(one, 8)
    assert _epoch(one, 7) != _epoch(Order(pairs, batch_size=4, seed=4, train=True), 7)


def test_an_epoch_can_begin_in_its_middle() -> None:
    order = Order(_pairs(30), batch_size=4, seed=0, train=True)
    assert _epoch(order, 1, first_batch=3) == _epoch(order, 1)[3:]
    assert _epoch(order, 1, first_batch=99) == []


def test_over_the_epochs_every_caption_and_every_image_comes() -> None:
    pairs = _pairs(10, captions=3)
    order = Order(pairs, batch_size=4, seed=0, train=True)
    drawn = Counter(draw.pair for epoch in range(60) for batch in _epoch(order, epoch) for draw in batch)
    assert len(drawn) == len(pairs)
    assert max(drawn.values()) < 5 * min(drawn.values())


def test_validation_is_the_first_pair_of_each_image_in_order_uncropped() -> None:
    order = Order(_pairs(5), batch_size=2, seed=0, train=False)
    expected = [
        [SampleSpec(0, None), SampleSpec(5, None)],
        [SampleSpec(10, None), SampleSpec(15, None), SampleSpec(20, None)],
    ]
    assert _epoch(order, 0) == _epoch(order, 1) == expected


def test_training_crops_have_seeds_of_their_own() -> None:
    order = Order(_pairs(30), batch_size=30, seed=0, train=True)
    assert len({draw.crop_seed for batch in _epoch(order, 0) + _epoch(order, 1) for draw in batch}) == 60


def test_a_batch_has_at_least_one_row() -> None:
    with pytest.raises(ValueError, match="batch_size is 0"):
        Order(_pairs(3), batch_size=0, seed=0, train=True)
