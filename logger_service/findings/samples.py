"""What a rule measures: samples of a run, made of its records.

Every sample belongs to a role (:mod:`roles`). A rule names its roles, and gets the samples of each tag of these roles
in the order of the records.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32] | NDArray[np.float64]


class Points(NamedTuple):
    """Consecutive points of one curve, all of them finite: CHUNK_POINTS of :mod:`watch`, or fewer.

    A curve that is logged with different others at times has up to 16 times as many.
    ``times_s`` are wall times in seconds. Several samples share the lists: a rule does not change them.
    """

    tag: str
    steps: list[int]
    values: list[float]
    times_s: list[float]


class NonFinite(NamedTuple):
    """The number of NaN and infinite values of one tag at one step; 0 when a tag that had some is finite again.

    ``kind`` is "scalar", "weight" or "gradient", ``values`` is the number of all values of the tag.
    """

    tag: str
    kind: str
    step: int
    values: int
    non_finite: int


class Layer(NamedTuple):
    """Statistics of one tensor; ``rms`` is over the finite values, ``fingerprint`` changes when a value changes."""

    values: int
    zeros: int
    rms: float
    minimum: float
    maximum: float
    fingerprint: int


class Layers(NamedTuple):
    """All weights, or all gradients, that were summarised at one step: layers by tag, in the order of the record."""

    step: int
    layers: dict[str, Layer]


class Similarity(NamedTuple):
    """A square matrix of similarities ``[N, N]``: the pairs that match lie on the diagonal."""

    tag: str
    step: int
    values: Floats


class Space(NamedTuple):
    """Embeddings ``[N, D]`` of one space at one step; N is at most :data:`watch.ROWS_MAX`.

    ``groups`` holds, for a space that joins several modalities, the modality of each row; else it is empty.
    """

    tag: str
    step: int
    vectors: Floats
    groups: list[str]


class Missing(NamedTuple):
    """Records of the stream that are missing, and why."""

    step: int
    records: int
    reason: str


class Ended(NamedTuple):
    """The end of the stream."""

    step: int


Sample: TypeAlias = Points | NonFinite | Layers | Similarity | Space | Missing | Ended
