"""An embedding in parts."""

from collections.abc import Sequence
from itertools import pairwise

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Embedding


def in_parts(whole: Embedding, ends: Sequence[int]) -> list[Embedding]:
    """Return a whole embedding in parts that end before these rows, and a last part."""
    row_count = whole.vectors.shape[0]
    vectors, pictures = whole.vectors.numpy(), whole.thumbnails and whole.thumbnails.numpy()
    bounds = [0, *ends, row_count]
    return [
        Embedding(
            whole.tag,
            pack_array(vectors[first:end]),
            whole.columns,
            whole.rows[first:end],
            None if pictures is None else pack_array(pictures[first:end]),
            first,
            row_count,
        )
        for first, end in pairwise(bounds)
    ]
