"""The short path of one scalar: the same records as the long path, or nothing at all."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.ids import plain
from support.machine.children import fork
from support.records.recordings import Said
from support.running.spoken import read_recording, read_said
from torch import Tensor

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.scalar_template import ScalarTemplate
from tensorboard_sidecar.telemetry import scalar_calls

META = torch.zeros((), device="meta")


def learn(telemetry: Telemetry, tag: str = "a") -> None:
    """Have the tag checked."""
    telemetry.scalars(0, {tag: 0.0})


def open_telemetry(folder: Path, *, strict: bool = True) -> Telemetry:
    telemetry = Telemetry("run", endpoint=None, record=folder, strict=strict)
    learn(telemetry)
    return telemetry


VALUES = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.booleans(),
    st.floats(width=32).map(np.float32),
    st.floats(width=16).map(np.float16),
    st.floats().map(np.float64),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.floats(width=32).map(torch.tensor),
    st.integers(-(2**63), 2**63 - 1).map(torch.tensor),
    st.booleans().map(torch.tensor),
)
TAGS = st.sampled_from(["a", "loss/train", "é" * 200, "😀"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.tuples(TAGS, VALUES, st.integers(0, STEP_MAX)), min_size=1, max_size=20))
def test_both_paths_make_the_same_bytes(
    calls: list[tuple[str, Any, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("paths")
    for name in ("long", "short"):
        with Telemetry("run", endpoint=None, record=folder / name, strict=True) as telemetry:
            for tag in ("a", "loss/train", "é" * 200, "😀"):
                learn(telemetry, tag)
            for tag, value, step in calls:
                if name == "long":
                    telemetry.scalars(step, {tag: value})
                else:
                    assert telemetry.scalar_calls.keep(tag, value, step)
    long, short = (
        [record._replace(wall_time_ns=0) for record in read_recording(folder / name)] for name in ("long", "short")
    )
    assert short == long


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 5e-324, True, 10**300, np.float32(0.1)])
def test_every_number_arrives_as_it_is(tmp_path: Path, value: Any) -> None:
    with open_telemetry(tmp_path) as telemetry:
        assert telemetry.scalar_calls.keep("a", value, 1)
    [message] = [said.message for said in read_said(tmp_path) if said.step == 1 and isinstance(said.message, Scalars)]
    kept = message.values["a"]
    assert type(kept) is float
    assert repr(kept) == repr(float(value))


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("tag", "value", "step"),
    [
        ("unknown", 1.0, 1),
        (None, 1.0, 1),
        (5, 1.0, 1),
        (["a"], 1.0, 1),
        (Text("b"), 1.0, 1),
        *(("a", value, 1) for value in (None, "1", 1j, 10**400, np.array([1.5]), META, torch.ones(2), object())),
        ("a", torch.nn.Parameter(torch.tensor(1.0)), 1),
        *(("a", 1.0, step) for step in (None, -1, STEP_MAX + 1, 1.0, True, "1", np.int64(1), torch.tensor(1), META)),
    ],
    ids=plain,
)
def test_any_other_call_is_left_to_the_long_path(tmp_path: Path, tag: Any, value: Any, step: Any) -> None:
    with open_telemetry(tmp_path) as telemetry:
        before = telemetry.scalar_calls.tags.copy()
        assert not telemetry.scalar_calls.keep(tag, value, step)
        assert telemetry.scalar_calls.tags == before
        assert telemetry.faults.total == 0
        assert telemetry.cost.highest_step == 0
    assert len(read_said(tmp_path)) == 3, "nothing was kept"


def test_after_the_close_nothing_is_kept(tmp_path: Path) -> None:
    telemetry = open_telemetry(tmp_path, strict=False)
    assert telemetry.scalar_calls.keep("a", 1.0, 1)
    telemetry.close()
    assert not telemetry.scalar_calls.keep("a", 1.0, 2)
    telemetry.writer.add_scalar("a", 1.0, 2)
    assert telemetry.faults.total == 1
    assert len(read_said(tmp_path)) == 4


def test_a_forked_child_keeps_nothing_in_its_parents_memory(tmp_path: Path) -> None:
    with open_telemetry(tmp_path, strict=False) as telemetry:
        assert telemetry.scalar_calls.keep("a", 1.0, 1)

        def child() -> None:
            for step in range(2, 100):
                assert not telemetry.scalar_calls.keep("a", -1.0, step)
                telemetry.writer.add_scalar("a", -1.0, step)
            assert telemetry.faults.total == 98

        assert fork(child) == 0
        assert telemetry.scalar_calls.keep("a", 1.0, 2)
        assert telemetry.faults.total == 0
    assert read_said(tmp_path)[2:-1] == [Said(1, Scalars({"a": 1.0})), Said(2, Scalars({"a": 1.0}))]


def test_a_child_forked_in_the_middle_of_calls_harms_nobody(tmp_path: Path) -> None:
    stop, steps = threading.Event(), 0

    def child() -> None:
        assert not telemetry.scalar_calls.keep("a", -1.0, 0)
        telemetry.close()

    def log() -> None:
        nonlocal steps
        while not stop.is_set():
            telemetry.writer.add_scalar("a", 1.0, steps := steps + 1)

    with open_telemetry(tmp_path, strict=False) as telemetry:
        thread = threading.Thread(target=log)
        thread.start()
        for _ in range(10):
            assert fork(child) == 0
        stop.set()
        thread.join()
    assert telemetry.faults.total == 0
    assert [said.step for said in read_said(tmp_path)[2:-1]] == list(range(1, steps + 1))


def test_a_call_counts_for_its_step(tmp_path: Path) -> None:
    with open_telemetry(tmp_path) as telemetry:
        for step in (5, 5, 9, 7, 7):
            assert telemetry.scalar_calls.keep("a", 1.0, step)
        assert (telemetry.cost.step, telemetry.cost.highest_step) == (7, 9)
        assert 0 < telemetry.cost.percentile_us(50) < 1e6
        before = telemetry.cost.ns
        assert telemetry.scalar_calls.keep("a", 1.0, 7)
        assert telemetry.cost.ns > before


def test_the_cost_of_a_step_is_the_sum_of_its_calls(tmp_path: Path) -> None:
    with open_telemetry(tmp_path) as telemetry:
        for step in range(1, 50):
            for _ in range(19):
                telemetry.writer.add_scalar("a", 1.0, step)
        many = telemetry.health()["telemetry/step_cost_us_p50"]
        for step in range(50, 1100):
            telemetry.writer.add_scalar("a", 1.0, step)
        one = telemetry.health()["telemetry/step_cost_us_p50"]
    assert 4 < many / one < 80


def test_an_error_behind_the_place_is_a_fault_and_no_second_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    telemetry = open_telemetry(tmp_path, strict=False)
    with monkeypatch.context() as patch:
        patch.setattr(ScalarTemplate, "write", broken)
        assert telemetry.scalar_calls.keep("a", 1.0, 1)
        assert telemetry.faults.total == 1
    telemetry.close()
    assert [said.step for said in read_said(tmp_path)][:3] == [0, 0, 1], "the sender thread wrote the record"


def test_templates_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scalar_calls, "TAGS_MAX", 3)
    with open_telemetry(tmp_path) as telemetry:
        for number in range(10):
            learn(telemetry, f"tag/{number}")
        for number in range(10):
            assert telemetry.scalar_calls.keep(f"tag/{number}", 1.0, 1)
            assert len(telemetry.scalar_calls._templates) <= 3


def test_threads_lose_and_double_nothing(tmp_path: Path) -> None:
    def log(number: int) -> None:
        for step in range(1, 301):
            telemetry.writer.add_scalar(f"thread/{number}", float(step), step)

    with open_telemetry(tmp_path) as telemetry:
        threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    kept: dict[str, list[float]] = {}
    for said in read_said(tmp_path)[2:-1]:
        assert isinstance(said.message, Scalars)
        [(tag, value)] = said.message.values.items()
        kept.setdefault(tag, []).append(value)
    assert kept == {f"thread/{number}": [float(step) for step in range(1, 301)] for number in range(4)}


@pytest.mark.parametrize("make", [lambda: torch.tensor(1.5), lambda: torch.tensor([1.5]), lambda: torch.tensor(3)])
def test_a_tensor_that_the_loop_changes_later_is_kept_as_it_was(tmp_path: Path, make: Callable[[], Tensor]) -> None:
    with open_telemetry(tmp_path) as telemetry:
        tensor = make()
        expected = float(tensor)
        assert telemetry.scalar_calls.keep("a", tensor, 1)
        tensor += 1
    assert read_said(tmp_path)[2] == Said(1, Scalars({"a": expected}))
