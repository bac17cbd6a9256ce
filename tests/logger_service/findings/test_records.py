"""Every kind of message reaches the watch, or is known to tell the rules nothing."""

from typing import Any

import numpy as np
import pytest
from support.records.golden import RECORDS
from support.records.parts import in_parts
from support.records.recordings import START_NS, every_kind, make_embedding, make_records, summarise

from tensorboard_sidecar.logger_service.findings.records import UNWATCHED, observe
from tensorboard_sidecar.logger_service.findings.rules.layers import ZERO_GRADIENT
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.samples import Layer
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.kinds import KINDS
from tensorboard_sidecar.protocol.record import Kind, Record


class Noted(Watch):
    """A watch that notes what it is told."""

    def __init__(self) -> None:
        super().__init__([])
        self.told: list[tuple[Any, ...]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ("scalars", "layer", "matrix", "embedding", "start", "settings", "missing", "end"):
            return lambda *told, **named: self.told.append((name, *told, *named.items())) or []
        return super().__getattribute__(name)


def told(message: messages.Message | None, step: int = 5, **header: Any) -> list[tuple[Any, ...]]:
    watch = Noted()
    record = Record(Kind.SCALARS, 1, step, START_NS, b"")._replace(**header)
    assert observe(watch, record, message) == []
    return watch.told


@pytest.mark.parametrize("row", KINDS, ids=lambda row: row.name)
def test_a_kind_that_is_not_watched_tells_the_watch_nothing_and_every_other_kind_something(row: Any) -> None:
    """Such kinds are not even decoded when a recording is read again."""
    silent = row.kind in UNWATCHED or row.kind == Kind.SEGMENT
    assert (not told(RECORDS[row.name].message)) is silent


def test_an_unknown_kind_tells_the_watch_nothing() -> None:
    assert told(None) == []


def test_scalars_of_all_kinds_are_told_with_their_times() -> None:
    assert told(messages.Scalars({"a": 1.0})) == [("scalars", 5, START_NS, {"a": 1.0})]
    assert told(messages.Point("a", 2.0)) == [("scalars", 5, START_NS, {"a": 2.0})]
    assert told(messages.Overlay("loss", {"train": 1.0})) == [("scalars", 5, START_NS, {"train": 1.0})]


def test_a_start_tells_its_step_its_settings_and_whether_it_goes_on() -> None:
    start = messages.RunStart(3, {"lr": 0.1}, continues=True)
    assert told(start) == [("start", 3, {"lr": 0.1}, ("continues", True))]
    watch = Watch([])
    observe(watch, Record(Kind.RUN_START, 1, 0, START_NS, b""), start)
    assert (watch.facts.resumed, watch.facts.first_step) == (True, 3)


def test_summaries_of_tensors_are_told_as_layers() -> None:
    values = np.array([3.0, -4.0])
    ((name, step, tag, layer, non_finite),) = told(messages.TensorSummaries({"weights/a": summarise(values)}))
    assert (name, step, tag, non_finite) == ("layer", 5, "weights/a", 0)
    assert layer == Layer(2, 0, 12.5**0.5, -4.0, 3.0, layer.fingerprint)
    ((*_, other, _),) = told(messages.TensorSummaries({"weights/a": summarise(values + 1e-3)}))
    assert other.fingerprint != layer.fingerprint


def test_a_summary_with_no_finite_value_has_no_size() -> None:
    summary = messages.TensorSummary(
        4, 0, 1, 2, 1, 0.0, 0.0, 0.0, 0.0, 3, pack_array(np.zeros(0, np.uint16)), pack_array(np.zeros(0, np.uint64))
    )
    ((*_, layer, non_finite),) = told(messages.TensorSummaries({"weights/a": summary}))
    assert (layer.rms, non_finite) == (0.0, 4)


def test_the_first_part_of_an_embedding_alone_is_told_with_its_groups() -> None:
    first, second = in_parts(make_embedding("joint", rows=12), [8])
    ((name, step, tag, vectors, groups),) = told(first)
    assert (name, step, tag, vectors.shape, groups) == ("embedding", 5, "joint", (8, 5), ["text"] * 8)
    assert told(second) == []
    ((*_, groups),) = told(messages.Embedding("e", pack_array(np.eye(4, dtype=np.float32))))
    assert groups == []


def test_a_gap_tells_how_many_records_are_missing() -> None:
    assert told(messages.Gap("lost"), span=7) == [("missing", 5, 7, "lost")]


def test_a_run_of_every_kind_is_watched_by_every_rule_without_an_error() -> None:
    watch = Watch(RULES)
    for record in make_records(every_kind(range(1, 40))):
        observe(watch, record, decode_message(record))
    assert not [reason for _, reason in watch.not_checked() if "failed" in reason]


def histogram(size: float) -> messages.Histogram:
    """Return the histogram of a hundred values from 0 to ``size``."""
    edge, count = pack_array(np.array([size or 1e-12])), pack_array(np.array([100.0]))
    return messages.Histogram("fc.weight.grad", 0.0, size, 100.0, 50 * size, 33 * size**2, edge, count)


@pytest.mark.parametrize(("size", "rules"), [(0.0, ["zero-gradient"]), (1.0, []), (1e-30, [])])
def test_a_histogram_of_zeros_is_a_zero_gradient(size: float, rules: list[str]) -> None:
    watch = Watch([ZERO_GRADIENT])
    watch.start(0, {"total_steps": 100})
    records = [Record(Kind.HISTOGRAM, step, step, step, b"") for step in (20, 30, 40)]
    found = [one for record in records for one in observe(watch, record, histogram(size))]
    assert [one.rule for one in found + watch.flush()] == rules
