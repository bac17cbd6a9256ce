import pytest
import torch

from tensorboard_sidecar.trainer.data.batch import SAMPLES_MULTIPLE, TOKENS_MULTIPLE, Batch, Sample, Unreadable, collate


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
    return collate([_sample(1, 3, 100), Unreadable("b.jpg: truncated"), _sample(5, 9, SAMPLES_MULTIPLE + 1)])


def test_rows_are_filled_up_to_a_common_rounded_length(batch: Batch) -> None:
    assert batch.tokens.shape == (2, 2 * TOKENS_MULTIPLE)
    assert batch.tokens[0].tolist() == [2, 3, 4] + [0] * (2 * TOKENS_MULTIPLE - 3)
    assert batch.token_mask.sum(dim=1).tolist() == [3, 9]
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
    samples = [_sample(1, 3, 100, cut=True), _sample(2, 3, 100), Unreadable("b.wav"), _sample(3, 3, 100, cut=True)]
    assert collate(samples).cut == 2


def test_a_batch_of_nothing_readable_has_no_rows() -> None:
    batch = collate([Unreadable("a.jpg: broken"), Unreadable("b.wav: broken")])
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
