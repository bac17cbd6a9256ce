"""C6: a wrong setting raises at start-up; later calls raise nothing into the loop, unless telemetry is strict."""

import math
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.running.spoken import read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.messages import Chart, Graph, GraphNode, RunEnd
from tensorboard_sidecar.telemetry.calls import BadValue, Faults

META: Final = torch.zeros((), device="meta")
WRONG_SETTINGS: Final[dict[str, tuple[dict[str, Any], type[Exception], str]]] = {
    "nowhere to go": ({"endpoint": None, "record": None}, ValueError, "give an endpoint, a record folder, or both"),
    "an empty endpoint": ({"endpoint": "", "record": None}, ValueError, "give an endpoint"),
    "an empty folder": ({"endpoint": None, "record": ""}, ValueError, "give an endpoint"),
    "no address": ({"endpoint": "localhost"}, ValueError, "expected the logger's address"),
    "an address without a host": ({"endpoint": "tcp://"}, ValueError, "expected the logger's address"),
    "an address to listen on": ({"endpoint": "tcp://*:5555"}, ValueError, "expected the logger's address"),
    "a port that is none": ({"endpoint": "tcp://127.0.0.1:99999"}, ValueError, "expected the logger's address"),
    "an endpoint that is no text": ({"endpoint": 5555}, ValueError, "expected text"),
    "no run": ({"run": ""}, Malformed, "names no folder"),
    "a run that is the log directory": ({"run": "./"}, Malformed, "names no folder"),
    "a run that is above the log directory": ({"run": "../.."}, Malformed, "names no folder"),
    "a run that is no text": ({"run": 5}, TypeError, "expected a name"),
    "a run that is bytes": ({"run": b"a"}, TypeError, "expected a name"),
    "a negative attempt": ({"attempt": -1}, Malformed, "attempt -1"),
    "an attempt that is no number": ({"attempt": "1"}, TypeError, "attempt '1'; expected a whole number"),
    "a negative rank": ({"rank": -1}, Malformed, "rank -1"),
    "a rank without end": ({"rank": 2**31}, Malformed, "rank 2147483648"),
    "a negative step": ({"first_step": -1}, Malformed, "step -1"),
    "half a step": ({"first_step": 0.5}, TypeError, "first_step 0.5; expected a whole number"),
    "a rank that is no number": ({"rank": "0"}, TypeError, "rank '0'; expected a whole number"),
    "a config that is a list": ({"config": [("lr", 1)]}, TypeError, "a list; expected parameters by name"),
    "a config that is a text": ({"config": "lr=1"}, TypeError, "a str; expected parameters by name"),
    "a config that is a class": ({"config": Faults}, TypeError, "a type; expected parameters by name"),
    "a strict config with no text": ({"config": {"a": object()}, "strict": True}, BadValue, "are left out: a "),
    "a drain that never ends": ({"drain_seconds": math.inf}, ValueError, "drain_seconds inf"),
    "a drain that is no number": ({"drain_seconds": math.nan}, ValueError, "drain_seconds nan"),
    "a negative drain": ({"drain_seconds": -1.0}, ValueError, "drain_seconds -1"),
    "a drain that is a text": ({"drain_seconds": "5"}, TypeError, "drain_seconds '5'; expected seconds"),
    "an outbox of a float": ({"outbox_bytes": 2e6}, TypeError, "outbox_bytes 2000000.0; expected a whole number"),
    "an outbox of nobody": ({"outbox_bytes": None}, TypeError, "outbox_bytes None; expected a whole number"),
    "a spill that is a text": ({"spill_bytes": "1G"}, TypeError, "spill_bytes '1G'; expected a whole number"),
    "an outbox of nothing": ({"outbox_bytes": 0}, ValueError, "expected 1,048,576 or more"),
    "a folder that is a file": ({"endpoint": None, "record": "/etc/passwd"}, OSError, "/etc/passwd"),
}


@pytest.mark.parametrize(("wrong", "error", "reason"), WRONG_SETTINGS.values(), ids=WRONG_SETTINGS)
def test_a_wrong_setting_is_said_at_once_and_leaves_nothing(
    wrong: dict[str, Any], error: type[Exception], reason: str, outboxes: Path, tmp_path: Path
) -> None:
    threads = threading.active_count()
    arguments: dict[str, Any] = {"run": "run", "endpoint": None, "record": tmp_path / "record"} | wrong
    with pytest.raises(error, match=reason):
        Telemetry(**arguments)
    assert list(outboxes.iterdir()) == []
    assert not (tmp_path / "record").exists()
    assert threading.active_count() == threads


def test_a_folder_that_cannot_be_written_is_said_at_once_beside_a_good_endpoint(outboxes: Path) -> None:
    with pytest.raises(OSError, match="/proc/record"):
        Telemetry("run", endpoint="tcp://127.0.0.1:5555", record="/proc/record")
    assert list(outboxes.iterdir()) == []


class Both:
    """The same calls on a strict and on a default telemetry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        memory = folder / "memory"  # not the fixture ``memory``, which a module-scoped fixture cannot use
        self.lax = Telemetry("lax", endpoint=None, record=folder / "lax", outbox_dir=memory)
        self.strict = Telemetry("strict", endpoint=None, record=folder / "strict", outbox_dir=memory, strict=True)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Exception | None:
        """Return the error of the strict telemetry; the other must not raise, and must count the same faults."""
        faults = self.lax.faults.total
        _find(self.lax, name)(*args, **kwargs)
        raised = None
        try:
            _find(self.strict, name)(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - any type
            raised = error
        assert (raised is not None) == (self.lax.faults.total > faults), raised
        return raised

    def close(self) -> None:
        """Close both; every kept record must be valid for a logger."""
        for telemetry in (self.lax, self.strict):
            telemetry.close(60.0)
            said = read_said(self.folder / telemetry.run)
            assert said[-1].message == RunEnd("completed")


def _find(telemetry: Telemetry, name: str) -> Any:
    return getattr(telemetry.writer if name.startswith("add_") else telemetry, name)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("both"))
    yield made
    made.close()


CALLS: Final[dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]]] = {
    "no arguments": ("scalars", (), {}),
    "no step": ("scalars", ({"a": 1.0},), {}),
    "an argument that there is not": ("text", (1, "t", "x"), {"colour": "red"}),
    "a step before all others": ("scalars", (-(2**53) - 1, {"a": 1.0}), {}),
    "a step without end": ("scalars", (2**53 + 1, {"a": 1.0}), {}),
    "a step of many digits": ("text", (10**5000, "t", "x"), {}),
    "half a step": ("scalars", (0.5, {"a": 1.0}), {}),
    "a step on a device": ("scalars", (torch.zeros((), dtype=torch.int64, device="meta"), {"a": 1.0}), {}),
    "two steps": ("scalars", ({"a": 1.0},), {"step": 1}),
    "a step that is no number": ("text", (math.nan, "t", "x"), {}),
    "no step at all": ("text", (None, "t", "x"), {}),
    "several steps": ("scalars", (np.array([1, 2]), {"a": 1.0}), {}),
    "several steps in a tensor": ("matrix", (torch.tensor([1, 2]), "m", torch.ones(2, 2)), {}),
    "values that are no mapping": ("scalars", (1, [1.0]), {}),
    "nothing for values": ("scalars", (1, None), {}),
    "half a character of text": ("text", (1, "t", "x\ud800"), {}),
    "a tag that is no text": ("scalars", (1, {5.0: 1.0}), {}),
    "no tag": ("scalars", (1, {None: 1.0}), {}),
    "a tag of a matrix that is no text": ("matrix", (1, None, torch.ones(2, 2)), {}),
    "a value that is a text": ("scalars", (1, {"a": "word"}), {}),
    "no value": ("scalars", (1, {"a": None}), {}),
    "a complex value": ("scalars", (1, {"a": 1j}), {}),
    "a value of several numbers": ("scalars", (1, {"a": torch.ones(2)}), {}),
    "a number beyond floats": ("scalars", (1, {"a": 10**400}), {}),
    "summaries of a text": ("summaries", (1, {"a": "word"}), {}),
    "summaries of complex numbers": ("summaries", (1, {"a": torch.ones(2, dtype=torch.complex64)}), {}),
    "summaries of a sparse tensor": ("summaries", (1, {"a": torch.eye(3).to_sparse()}), {}),
    "summaries of objects": ("summaries", (1, {"a": np.array([object()])}), {}),
    "an empty matrix": ("matrix", (1, "m", torch.ones(0, 3)), {}),
    "a matrix with a wrong range": ("matrix", (1, "m", torch.ones(2, 2)), {"value_range": (1.0, -1.0)}),
    "a matrix with half a range": ("matrix", (1, "m", torch.ones(2, 2)), {"value_range": (0.0, math.nan)}),
    "a matrix with three ends": ("matrix", (1, "m", torch.ones(2, 2)), {"value_range": (0.0, 1.0, 2.0)}),
    "a matrix with a range on a device": ("matrix", (1, "m", torch.ones(2, 2)), {"value_range": (0.0, META)}),
    "a large matrix": ("matrix", (1, "m", torch.ones(2, 5000)), {}),
    "pictures of five dimensions": ("images", (1, "i", torch.ones(1, 1, 1, 1, 1)), {}),
    "pictures of five channels": ("images", (1, "i", torch.ones(1, 5, 4, 4)), {}),
    "pictures without a pixel": ("images", (1, "i", torch.ones(0, 3, 4, 4)), {}),
    "pictures at another scale": ("images", (1, "i", torch.full((3, 4, 4), 255.0)), {}),
    "sound at another scale": ("audio", (1, "a", [torch.full((9,), 9000.0)]), {"sample_rate_hz": 16_000}),
    "too few captions": ("images", (1, "i", torch.ones(2, 3, 4, 4), ["one"]), {}),
    "a text that is a book": ("text", (1, "t", "x" * 10**7), {}),
    "a rate on a device": ("audio", (1, "a", [torch.ones(9)]), {"sample_rate_hz": META}),
    "captions on a device": ("images", (1, "i", torch.ones(1, 3, 4, 4), [META]), {}),
    "metadata on a device": ("embedding", (1, "e", torch.ones(2, 3)), {"metadata": {"a": META.expand(2)}}),
    "a clip of three dimensions": ("audio", (1, "a", [torch.ones(1, 1, 1)]), {"sample_rate_hz": 16_000}),
    "no rate": ("audio", (1, "a", [torch.ones(9)]), {}),
    "metadata of another length": ("embedding", (1, "e", torch.ones(2, 3)), {"metadata": {"a": ["x"]}}),
    "metadata of two lengths": ("embedding", (1, "e", torch.ones(2, 3)), {"metadata": {"a": ["x", "y"], "b": ["z"]}}),
    "thumbnails of another number": ("embedding", (1, "e", torch.ones(2, 3)), {"images": torch.ones(3, 3, 4, 4)}),
    "a parameter that has no text": ("hparams", (1, {"a": object()}, {}), {}),
    "parameters without names": ("hparams", (1, [1], {}), {}),
    "a metric that is a text": ("hparams", (1, {}, {"a": "word"}), {}),
    "a graph that is none": ("graph", (1, "graph"), {}),
    "a graph of texts": ("graph", (1, Graph(["node"])), {}),  # type: ignore[list-item]
    "a graph with a wrong shape": ("graph", (1, Graph([GraphNode("a", "b", [], [[-2]])])), {}),
    "a chart of another kind": ("layout", (1, {"a": {"b": Chart("pie", ["x"])}}), {}),  # type: ignore[arg-type]
    "a deadline that is a text": ("close", ("soon",), {}),
}


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS.values(), ids=CALLS)
def test_a_wrong_call_raises_only_when_strict(
    both: Both, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    assert both.call(name, *args, **kwargs) is not None
    assert both.call("scalars", 1, {"good": 1.0}) is None, "what comes after it is none the worse"


RUBBISH = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 100),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.text(st.characters(), max_size=8),
    st.sampled_from(["a", "CHW", "x" * 600]),
    st.binary(max_size=8),
    st.builds(timedelta),
    st.builds(object),
    st.tuples(
        st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64, torch.uint8]),
        st.lists(st.integers(0, 4), max_size=5),
    ).map(lambda drawn: torch.ones(drawn[1], dtype=drawn[0])),
    st.sampled_from([np.zeros((2, 2), dtype) for dtype in ("f8", "i4", "U3", "O", "M8[s]", "c8", ">f4")]),
)
NESTED = st.one_of(
    RUBBISH,
    st.lists(RUBBISH, max_size=3),
    st.dictionaries(st.one_of(st.text(max_size=5), st.integers()), RUBBISH, max_size=3),
    st.dictionaries(st.text(max_size=5), st.dictionaries(st.text(max_size=5), RUBBISH, max_size=2), max_size=2),
)
METHODS = {
    "scalars": [],
    "summaries": [],
    "matrix": ["title", "value_range", "row_label"],
    "images": ["captions", "layout"],
    "text": [],
    "audio": ["sample_rate_hz", "captions"],
    "embedding": ["metadata", "images"],
    "hparams": [],
    "graph": [],
    "layout": [],
    "add_scalar": ["global_step", "walltime", "new_style"],
    "add_scalars": ["global_step"],
    "add_histogram": ["global_step", "bins", "max_bins"],
    "add_image": ["dataformats"],
    "add_images": ["dataformats"],
    "add_text": ["global_step"],
    "add_audio": ["sample_rate"],
    "add_figure": ["close"],
    "add_custom_scalars_multilinechart": ["category", "title"],
    "add_custom_scalars_marginchart": ["category", "title"],
    "add_embedding": ["metadata", "label_img", "metadata_header", "tag"],
    "add_graph": ["input_to_model", "verbose"],
    "add_hparams": ["run_name", "global_step"],
    "add_custom_scalars": [],
}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), name=st.sampled_from(sorted(METHODS)))
def test_whatever_is_passed_raises_only_when_strict(both: Both, data: st.DataObject, name: str) -> None:
    """All kept records are valid for loggers: the records are decoded at the end."""
    args = data.draw(st.lists(NESTED, min_size=1, max_size=4))
    if not name.startswith("add_") and data.draw(st.booleans()):
        args[0] = data.draw(st.integers(0, 1000))
    keywords = data.draw(st.lists(st.sampled_from([*METHODS[name], "strange"]), unique=True, max_size=2))
    both.call(name, *args, **{keyword: data.draw(NESTED) for keyword in keywords})


def test_a_call_after_the_end_is_a_fault(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path)
    telemetry.close()
    telemetry.scalars(1, {"a": 1.0})
    telemetry.matrix(1, "m", torch.ones(2, 2))
    telemetry.summaries(1, {"a": torch.ones(2, device="meta")})
    assert telemetry.faults.total == 3
    assert len(read_said(tmp_path)) == 2


def test_strict_says_what_a_call_after_the_end_is(tmp_path: Path) -> None:
    telemetry = Telemetry("run", endpoint=None, record=tmp_path, strict=True)
    telemetry.close()
    with pytest.raises(RuntimeError, match="telemetry is closed"):
        telemetry.scalars(1, {"a": 1.0})


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_fault_of_telemetry_comes_through(tmp_path: Path, error: type[BaseException]) -> None:
    class Interrupting(dict[str, float]):
        def values(self) -> Any:
            raise error

        items = values

    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        with pytest.raises(error):
            telemetry.scalars(1, Interrupting(a=1.0))
        assert telemetry.faults.total == 0
