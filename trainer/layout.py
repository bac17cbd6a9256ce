"""The layout of TensorBoard's custom scalars: each loss of training and validation in one chart, and related curves."""

import re
from collections.abc import Iterable
from typing import Final

from tensorboard_sidecar.protocol.messages import Chart
from tensorboard_sidecar.trainer.losses import Losses
from tensorboard_sidecar.trainer.model import SPACES
from tensorboard_sidecar.trainer.retrieval import MODALITY_PAIRS

EMBEDDING_STATISTICS: Final = ("mean", "std", "norm")


def custom_layout() -> dict[str, dict[str, Chart]]:
    """Return the layout: for each category, charts by title."""
    losses = {
        name: [f"loss/{split}/{name}" for split in ("train", "val")] + ["loss/train/epoch_mean"] * (name == "total")
        for name in Losses._fields
    }
    pairs = [f"{a}_vs_{b}" for a, b in MODALITY_PAIRS]
    return {
        "Training Progress": {
            **{name.replace("_", " "): _chart(tags) for name, tags in losses.items()},
            "all losses": _chart(dict.fromkeys(tag for tags in losses.values() for tag in tags)),
        },
        "Embeddings": {name: _chart(f"embeddings/{space}/{name}" for space in SPACES) for name in EMBEDDING_STATISTICS},
        "Optimization": {
            "learning rate": _chart(["optimization/lr"]),
            "gradient norm": _chart(["optimization/grad_norm"]),
        },
        "Alignment": {
            pair.replace("_", " "): _chart(f"alignment/{pair}/{name}_similarity" for name in ("diagonal", "mean"))
            for pair in pairs
        },
    }


def _chart(tags: Iterable[str]) -> Chart:
    """Return a chart of exactly these tags, anchored: TensorBoard matches a chart's regular expressions as prefixes."""
    return Chart("multiline", [f"^{re.escape(tag)}$" for tag in tags])
