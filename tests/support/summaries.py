"""Summaries of single tensors."""

from typing import Final

from torch import Tensor

from protocol.messages import TensorSummary
from trainer.telemetry.summaries import Summarizer

_SUMMARIZER: Final = Summarizer()


def summarize(tensor: Tensor) -> TensorSummary:
    """Summarize one tensor."""
    return _SUMMARIZER.summarize_all({"": tensor})[""]
