"""From the messages of a recording to samples of the rules."""

import numpy as np
import pytest

from tensorboard_sidecar.logger_service.findings.records import observe
from tensorboard_sidecar.logger_service.findings.rules.layers import ZERO_GRADIENT
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import Embedding, Histogram
from tensorboard_sidecar.protocol.record import Kind, Record


def histogram(size: float) -> Histogram:
    """Return the histogram of a hundred values from 0 to ``size``."""
    edge, count = pack_array(np.array([size or 1e-12])), pack_array(np.array([100.0]))
    return Histogram("fc.weight.grad", 0.0, size, 100.0, 50 * size, 33 * size**2, edge, count)


@pytest.mark.parametrize(("size", "rules"), [(0.0, ["zero-gradient"]), (1.0, []), (1e-30, [])])
def test_a_histogram_of_zeros_is_a_zero_gradient(size: float, rules: list[str]) -> None:
    watch = Watch([ZERO_GRADIENT])
    watch.start(0, {"total_steps": 100})
    records = [Record(Kind.HISTOGRAM, step, step, step, b"") for step in (20, 30, 40)]
    found = [one for record in records for one in observe(watch, record, histogram(size))]
    assert [one.rule for one in found + watch.flush()] == rules


def test_an_embedding_says_the_modality_of_each_row() -> None:
    seen = []

    class Seen(Watch):
        def embedding(self, step: int, tag: str, vectors: np.ndarray, groups: list[str]) -> list:  # type: ignore[type-arg]
            seen.append((step, tag, vectors.shape, groups))
            return []

    vectors = pack_array(np.zeros((2, 3), np.float32))
    record = Record(Kind.EMBEDDING, 1, 7, 0, b"")
    observe(Seen([]), record, Embedding("joint", vectors, ["caption", "modality"], [["x", "text"], ["y", "image"]]))
    observe(Seen([]), record, Embedding("plain", vectors))
    assert seen == [(7, "joint", (2, 3), ["text", "image"]), (7, "plain", (2, 3), [])]
