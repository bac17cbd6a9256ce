import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.decode import UnreadableError
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, Pair, read_flickr8k
from tensorboard_sidecar.trainer.data.loader import (
    SAMPLES_MULTIPLE,
    TOKENS_MULTIPLE,
    Batch,
    Loader,
    Order,
    Sample,
    SampleSpec,
    collate,
    make_loader,
)
from tensorboard_sidecar.trainer.data.report import EpochCounts
from tensorboard_sidecar.trainer.data.vocabulary import END, PAD, START, Vocabulary


@pytest.fixture(scope="module")
def data(synthetic: Path) -> Flickr8k:
    return read_flickr8k(synthetic)


@pytest.fixture(scope="module")
def vocabulary(data: Flickr8k) -> Vocabulary:
    return Vocabulary.build(pair.caption for pair in data.train)


def _loader(pairs: tuple[Pair, ...], vocabulary: Vocabulary, *, train: bool = True, num_workers: int = 0) -> Loader:
    return make_loader(pairs, vocabulary, batch_size=4, seed=1, train=train, num_workers=num_workers, image_side_px=32)


def _same(ones: Iterator[Batch], others: Iterator[Batch]) -> bool:
    return all(
        one.captions == other.captions
        and torch.equal(one.images, other.images)
        and torch.equal(one.waveforms, other.waveforms)
        and torch.equal(one.tokens, other.tokens)
        for one, other in zip(ones, others, strict=True)
    )


def test_batches_hold_what_the_pairs_say(data: Flickr8k, vocabulary: Vocabulary) -> None:
    loader = _loader(data.train, vocabulary)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 2
    for batch in batches:
        assert batch.images.shape == (4, 3, 32, 32)
        assert len(set(batch.image_names)) == len(batch) == 4
        for row, index in enumerate(batch.indices.tolist()):
            pair = data.train[index]
            assert (pair.caption, pair.image_name) == (batch.captions[row], batch.image_names[row])
            assert batch.tokens[row][batch.tokens[row] != PAD].tolist() == vocabulary.encode(pair.caption)
            assert 16_000 < batch.waveform_lengths[row] <= batch.waveforms.shape[1]


def test_worker_processes_change_nothing(data: Flickr8k, vocabulary: Vocabulary) -> None:
    """Bit-identical batches in every epoch, also from the middle of an epoch."""
    here, elsewhere = _loader(data.train, vocabulary), _loader(data.train, vocabulary, num_workers=2)
    assert _same(here.epoch(0), elsewhere.epoch(0))
    assert _same(here.epoch(1), elsewhere.epoch(1))
    assert _same(here.epoch(5, first_batch=1), elsewhere.epoch(5, first_batch=1))


def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(data: Flickr8k, vocabulary: Vocabulary) -> None:
    through = _loader(data.train, vocabulary)
    for _ in range(3):
        list(through.epoch(0))
    assert _same(through.epoch(3), _loader(data.train, vocabulary).epoch(3))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_left_in_its_middle_does_not_disturb_the_next(
    data: Flickr8k, vocabulary: Vocabulary, num_workers: int
) -> None:
    loader = _loader(data.train, vocabulary, num_workers=num_workers)
    next(loader.epoch(0))
    assert _same(loader.epoch(1), _loader(data.train, vocabulary).epoch(1))


def test_loading_draws_nothing_from_the_global_generator(data: Flickr8k, vocabulary: Vocabulary) -> None:
    """Otherwise dropout would depend on the data, and a resumed run would have other losses."""
    before = torch.get_rng_state()
    list(_loader(data.train, vocabulary).epoch(0))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_breaks_costs_its_row_and_is_named_once(
    synthetic: Path, tmp_path: Path, vocabulary: Vocabulary, num_workers: int
) -> None:
    shutil.copytree(synthetic, tmp_path, dirs_exist_ok=True)
    pairs = read_flickr8k(tmp_path).train
    broken = tmp_path / "Flicker8k_Dataset" / "scene_00003.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    loader = make_loader(pairs, vocabulary, batch_size=10, seed=0, train=True, num_workers=num_workers)
    assert [len(batch) for epoch in range(3) for batch in loader.epoch(epoch)] == [9, 9, 9]
    (problem,) = loader.counts().problems
    assert problem.count == 1
    assert problem.examples[0].startswith("scene_00003.jpg: ")


def test_a_recording_at_another_scale_is_named_and_counted(
    synthetic: Path, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    """Scipy writes floats as they are: the model would hear samples of 9,000."""
    shutil.copytree(synthetic, tmp_path, dirs_exist_ok=True)
    pairs = read_flickr8k(tmp_path).train
    for wav in (tmp_path / "flickr_audio" / "wavs").glob("scene_00003_*.wav"):
        samples, rate_hz = soundfile.read(wav, dtype="int16")
        soundfile.write(wav, samples.astype(np.float32), rate_hz, subtype="FLOAT")
    loader = make_loader(pairs, vocabulary, batch_size=10, seed=0, train=True)
    assert [len(batch) for batch in loader.epoch(0)] == [9]
    (problem,) = loader.counts().problems
    assert problem.count == 1
    assert re.match(r"scene_00003_\d\.wav: FLOAT samples with a peak of .*; expected -1\.\.1", problem.examples[0])


def test_a_batch_is_handed_out_whatever_unreadable_files_leave_of_it(
    synthetic: Path, tmp_path: Path, vocabulary: Vocabulary
) -> None:
    """The number of batches depends on the order alone: processes that train together rely on equal numbers."""
    shutil.copytree(synthetic, tmp_path, dirs_exist_ok=True)
    data = read_flickr8k(tmp_path)
    for wav in (tmp_path / "flickr_audio" / "wavs").glob("scene_0000[1-9]_*.wav"):
        wav.write_bytes(wav.read_bytes()[:20])
    loader = make_loader(data.train, vocabulary, batch_size=10, seed=0, train=True)
    assert [len(batch) for batch in loader.epoch(0)] == [1]
    assert loader.counts().problems[0].count == 9
    halves = make_loader(data.train, vocabulary, batch_size=2, seed=0, train=True)
    assert sorted(len(batch) for batch in halves.epoch(0)) == [0, 0, 0, 0, 1]


def test_an_epoch_tells_how_many_pairs_it_has_and_how_many_recordings_it_cut(
    data: Flickr8k, vocabulary: Vocabulary
) -> None:
    loader = make_loader(data.train, vocabulary, batch_size=4, seed=0, train=True, max_seconds=2.4)
    for epoch in range(2):
        cut = sum(batch.cut for batch in loader.epoch(epoch))
        assert 0 < cut < 8
        assert loader.counts() == EpochCounts(pairs=8, cut=cut, problems=())
    assert loader.rows == 8
    assert make_loader(data.train, vocabulary, batch_size=64, seed=0, train=True).rows == 10


PROGRAM = """
import multiprocessing, sys, time
from pathlib import Path
from tensorboard_sidecar.trainer.data.flickr8k import read_flickr8k
from tensorboard_sidecar.trainer.data.loader import make_loader
from tensorboard_sidecar.trainer.data.vocabulary import Vocabulary

if __name__ == "__main__":
    pairs = read_flickr8k(Path(sys.argv[1])).train
    loader = make_loader(pairs, Vocabulary(()), batch_size=4, seed=0, train=True, num_workers=2)
    next(loader.epoch(0))
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


@pytest.mark.system
def test_workers_end_when_the_trainer_is_killed(synthetic: Path, tmp_path: Path) -> None:
    """After any kind of kill: a worker of half a gigabyte must not stay behind."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), str(synthetic)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as trainer:
        assert trainer.stdout is not None
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        trainer.kill()
    assert len(workers) == 2
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, f"still there: {workers}"
        time.sleep(0.01)


def test_validation_repeats_itself(data: Flickr8k, vocabulary: Vocabulary) -> None:
    loader = _loader(data.validation, vocabulary, train=False)
    assert _same(loader.epoch(0), loader.epoch(9))


def test_long_captions_and_recordings_are_cut(data: Flickr8k, vocabulary: Vocabulary) -> None:
    loader = make_loader(data.train, vocabulary, batch_size=10, seed=0, train=True, max_seconds=0.5, max_tokens=5)
    (batch,) = loader.epoch(0)
    assert batch.waveform_lengths.tolist() == [8_000] * 10
    assert (batch.tokens != PAD).sum(dim=1).tolist() == [5] * 10
    assert batch.tokens[:, 0].tolist() == [START] * 10
    assert batch.tokens[:, 4].tolist() == [END] * 10


def test_nothing_to_load_is_an_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match="no pairs"):
        _loader((), vocabulary)


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


def _sample(index: int, tokens: int, samples: int, *, cut: bool = False) -> Sample:
    return Sample(
        index=index,
        image=torch.full((3, 4, 4), 51 * index, dtype=torch.uint8),
        waveform=torch.full((samples,), 0.5),
        tokens=torch.arange(2, 2 + tokens),
        caption=f"caption {index}",
        image_name=f"{index}.jpg",
        cut=cut,
    )


@pytest.fixture
def batch() -> Batch:
    return collate([_sample(1, 3, 100), UnreadableError("b.jpg: truncated"), _sample(5, 9, SAMPLES_MULTIPLE + 1)])


def test_rows_are_filled_up_to_a_common_rounded_length(batch: Batch) -> None:
    assert batch.tokens.shape == (2, 2 * TOKENS_MULTIPLE)
    assert batch.tokens[0].tolist() == [2, 3, 4] + [0] * (2 * TOKENS_MULTIPLE - 3)
    assert (batch.tokens != PAD).sum(dim=1).tolist() == [3, 9]
    assert batch.waveforms.shape == (2, 2 * SAMPLES_MULTIPLE)
    assert batch.waveform_lengths.tolist() == [100, SAMPLES_MULTIPLE + 1]
    assert batch.waveforms.sum(dim=1).tolist() == [50, (SAMPLES_MULTIPLE + 1) / 2]


def test_images_are_floats_from_zero_to_one(batch: Batch) -> None:
    assert batch.images.dtype == torch.float32
    assert batch.images.amax(dim=(1, 2, 3)).tolist() == pytest.approx([0.2, 1.0])


def test_rows_stay_together_and_what_was_left_out_is_named(batch: Batch) -> None:
    assert len(batch) == 2
    assert batch.indices.tolist() == [1, 5]
    assert batch.captions == ("caption 1", "caption 5")
    assert batch.image_names == ("1.jpg", "5.jpg")
    assert batch.unreadable == ("b.jpg: truncated",)


def test_captions_of_the_same_tokens_have_the_same_key_in_every_batch() -> None:
    """The key depends on the tokens alone, not on spelling or on the other captions of the batch."""
    first = collate([_sample(1, 3, 100), _sample(2, 5, 100), _sample(3, 3, 100)])
    a, b, c = first.caption_keys.tolist()
    assert (a == c, a == b, first.caption_keys.dtype) == (True, False, torch.int64)
    assert collate([_sample(4, 9, 100), _sample(5, 3, 100)]).caption_keys.tolist()[1] == a


def test_recordings_that_are_cut_are_counted() -> None:
    samples = [_sample(1, 3, 100, cut=True), _sample(2, 3, 100), UnreadableError("b.wav"), _sample(3, 3, 100, cut=True)]
    assert collate(samples).cut == 2


def test_a_batch_of_nothing_readable_has_no_rows() -> None:
    batch = collate([UnreadableError("a.jpg: broken"), UnreadableError("b.wav: broken")])
    assert len(batch) == 0
    assert {len(each) for each in (batch.images, batch.tokens, batch.waveforms, batch.caption_keys)} == {0}
    assert batch.unreadable == ("a.jpg: broken", "b.wav: broken")


def test_a_batch_moves_as_a_whole(batch: Batch) -> None:
    moved = batch.to("meta", non_blocking=True)
    tensors = (moved.images, moved.tokens, moved.waveforms, moved.waveform_lengths, moved.indices, moved.caption_keys)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.captions == batch.captions


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pinned_batch_is_the_same_batch(batch: Batch) -> None:
    pinned = batch.pin_memory()
    assert pinned.images.is_pinned()
    assert torch.equal(pinned.to("cuda").tokens.cpu(), batch.tokens)
