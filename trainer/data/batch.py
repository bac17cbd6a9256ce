"""One batch: images, captions and spoken captions, row by row of the same pairs."""

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
"""Lengths are rounded up to these (a quarter of a second), so that a compiled model meets few shapes."""


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
    """Whether the recording goes on beyond the waveform."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A pair whose picture or recording could not be decoded; `what` names the file and the reason."""

    what: str


@dataclass(frozen=True, slots=True)
class Batch:
    """B pairs, no two of the same image.

    images            float32 [B, 3, S, S], RGB in 0..1; the model brings them to its backbone's mean and deviation
    tokens            int64 [B, T], filled up with PAD
    waveforms         float32 [B, N] at 16 kHz, filled up with zeros
    waveform_lengths  int64 [B], samples that are sound
    indices           int64 [B], places in the loader's pairs
    caption_keys      int64 [B], equal where the tokens are: the model cannot tell such captions apart
    captions, image_names   B strings
    unreadable        what was left out of this batch, and why
    cut               how many recordings go on beyond their waveform
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
        """Bool [B, T]: where there is a token and not padding."""
        return self.tokens != PAD

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory, for copies that overlap with work; DataLoader calls this."""
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
    """Put decoded pairs into one batch; those that are unreadable are named in it and otherwise left out.

    If all of them are, the batch has no rows.
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
        unreadable=tuple(row.what for row in rows if isinstance(row, Unreadable)),
        cut=sum(sample.cut for sample in samples),
    )


def _key(tokens: Tensor) -> int:
    """Return a number for a row of tokens, the same in every batch and process: eight bytes of its hash."""
    return int.from_bytes(blake2b(tokens.numpy().tobytes(), digest_size=8).digest(), "little", signed=True)


def _padded(rows: list[Tensor], value: float, multiple: int, dtype: torch.dtype) -> Tensor:
    """Stack rows of different lengths into [B, longest, rounded up]."""
    if not rows:
        return torch.empty(0, multiple, dtype=dtype)
    longest = max(len(row) for row in rows)
    padded = pad_sequence(rows, batch_first=True, padding_value=value)
    return torch.nn.functional.pad(padded, (0, -longest % multiple), value=value)
