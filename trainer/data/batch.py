"""Batches: row n of images, captions and spoken captions belongs to the same pair."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tensorboard_sidecar.trainer.data.vocabulary import PAD

TOKENS_MULTIPLE: Final = 8
SAMPLES_MULTIPLE: Final = 4_000
"""Lengths are padded to multiples of 8 tokens and 1/4 second, so that a compiled model sees few shapes."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One decoded pair: uint8 image [3, S, S], float32 waveform [samples] at 16 kHz, int64 tokens [length]."""

    index: int
    image: Tensor
    waveform: Tensor
    tokens: Tensor
    caption: str
    image_name: str
    cut: bool = False
    """Whether the recording is longer than the waveform."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A pair whose picture or recording could not be decoded; ``reason`` names the file and the error."""

    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """B pairs, no two of the same image.

    images            float32 [B, 3, S, S], RGB in 0..1; the model normalizes them
    tokens            int64 [B, T], padded with PAD
    waveforms         float32 [B, N] at 16 kHz, padded with zeros
    waveform_lengths  int64 [B], samples without padding
    indices           int64 [B], indices into the loader's pairs
    caption_keys      int64 [B], equal for captions with equal tokens, which the model cannot distinguish
    captions, image_names   B strings
    unreadable        the files of pairs that are missing in this batch, with the errors
    cut               the number of recordings that are longer than their waveform
    """

    images: Tensor
    tokens: Tensor
    waveforms: Tensor
    waveform_lengths: Tensor
    indices: Tensor
    caption_keys: Tensor
    captions: tuple[str, ...]
    image_names: tuple[str, ...]
    unreadable: tuple[str, ...]
    cut: int

    def __len__(self) -> int:
        return len(self.captions)

    @property
    def token_mask(self) -> Tensor:
        """Bool [B, T]: true for tokens, false for padding."""
        return self.tokens != PAD

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, for asynchronous copies to a GPU; DataLoader calls this method."""
        return self._mapped(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """Return the batch on a device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            images=change(self.images),
            tokens=change(self.tokens),
            waveforms=change(self.waveforms),
            waveform_lengths=change(self.waveform_lengths),
            indices=change(self.indices),
            caption_keys=change(self.caption_keys),
        )


def collate(rows: Sequence[Sample | Unreadable]) -> Batch:
    """Join decoded pairs into a batch; unreadable pairs have no row and are listed in ``unreadable``.

    Without any readable pair, the batch has no rows.
    """
    samples = [row for row in rows if isinstance(row, Sample)]
    images = torch.stack([sample.image for sample in samples]) if samples else torch.empty(0, 3, 1, 1)
    return Batch(
        images=images.float() / 255,
        tokens=_padded([sample.tokens for sample in samples], PAD, TOKENS_MULTIPLE, torch.int64),
        waveforms=_padded([sample.waveform for sample in samples], 0.0, SAMPLES_MULTIPLE, torch.float32),
        waveform_lengths=torch.tensor([len(sample.waveform) for sample in samples], dtype=torch.int64),
        indices=torch.tensor([sample.index for sample in samples], dtype=torch.int64),
        caption_keys=torch.tensor([_key(sample.tokens) for sample in samples], dtype=torch.int64),
        captions=tuple(sample.caption for sample in samples),
        image_names=tuple(sample.image_name for sample in samples),
        unreadable=tuple(row.reason for row in rows if isinstance(row, Unreadable)),
        cut=sum(sample.cut for sample in samples),
    )


def _key(tokens: Tensor) -> int:
    """Return a 64-bit hash of a row of tokens, equal in every batch and process."""
    return int.from_bytes(blake2b(tokens.numpy().tobytes(), digest_size=8).digest(), "little", signed=True)


def _padded(rows: list[Tensor], value: float, multiple: int, dtype: torch.dtype) -> Tensor:
    """Stack rows into [B, L]; L is the longest length, rounded up to ``multiple``."""
    if not rows:
        return torch.empty(0, multiple, dtype=dtype)
    longest = max(len(row) for row in rows)
    padded = pad_sequence(rows, batch_first=True, padding_value=value)
    return torch.nn.functional.pad(padded, (0, -longest % multiple), value=value)
