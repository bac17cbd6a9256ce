"""The learning rate over the steps of a run."""

import math


def warmup_cosine(step: int, *, warmup_steps: int, total_steps: int) -> float:
    """Return the factor on the peak learning rate after ``step`` finished steps.

    The factor rises linearly over ``warmup_steps`` (at most half of the run), then falls along a half cosine to zero at
    ``total_steps`` (arXiv:1608.03983, equation 5, without restarts).
    """
    warmup_steps = min(warmup_steps, total_steps // 2)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
