"""Summaries of single tensors."""

from typing import Final

from torch import Tensor

from tensorboard_sidecar.protocol.messages import TensorSummary
from tensorboard_sidecar.telemetry.values.summaries import Summarizer

_SUMMARIZER: Final = Summarizer()


def summarize(tensor: Tensor) -> TensorSummary:
    """Return the summary of a tensor."""
    return _SUMMARIZER.summarize_all({"": tensor})[""]
