import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tensorboard_sidecar.trainer.data.batch import Batch
from tensorboard_sidecar.trainer.data.epoch_counts import EpochCounts
from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, Pair, read_flickr8k
from tensorboard_sidecar.trainer.data.loader import Loader, make_loader
from tensorboard_sidecar.trainer.data.vocabulary import END, START, Vocabulary


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
            assert batch.tokens[row][batch.token_mask[row]].tolist() == vocabulary.encode(pair.caption)
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
from tensorboard_sidecar.trainer.data import Vocabulary, make_loader, read_flickr8k

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
    assert batch.token_mask.sum(dim=1).tolist() == [5] * 10
    assert batch.tokens[:, 0].tolist() == [START] * 10
    assert batch.tokens[:, 4].tolist() == [END] * 10


def test_nothing_to_load_is_an_error(vocabulary: Vocabulary) -> None:
    with pytest.raises(ValueError, match="no pairs"):
        _loader((), vocabulary)
