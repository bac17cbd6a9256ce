"""Events of all programs: both forms of scalars and histograms, hyperparameters, and rubbish."""

import math
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.summary import hparams

from tensorboard_sidecar.logger_service.events.values import text_value
from tensorboard_sidecar.logger_service.events.watched_values import EVENT_SIZE_MAX_BYTES, EventReader, Watched
from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, TooLarge


def read(*values: Any, reader: EventReader | None = None, part: str = "", **fields: Any) -> Watched:
    event = Event(**({"step": 3, "wall_time": 1.5} | fields), summary=Summary(value=values))
    return (reader or EventReader()).read(memoryview(event.SerializeToString()), part)


def plugin(name: str) -> SummaryMetadata:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=name))


def tensor(tag: str, proto: TensorProto, name: str = "scalars") -> Summary.Value:
    return Summary.Value(tag=tag, metadata=plugin(name), tensor=proto)


@pytest.mark.parametrize(
    "value",
    [
        Summary.Value(tag="loss", simple_value=0.5),
        tensor("loss", TensorProto(dtype="DT_FLOAT", float_val=[0.5])),
        tensor("loss", TensorProto(dtype="DT_DOUBLE", double_val=[0.5])),
        tensor("loss", TensorProto(dtype="DT_FLOAT", tensor_content=np.float32(0.5).tobytes())),
        tensor("loss", TensorProto(dtype="DT_DOUBLE", tensor_content=np.float64(0.5).tobytes())),
    ],
    ids=["simple", "float", "double", "float bytes", "double bytes"],
)
def test_every_form_of_a_scalar_is_the_same_number(value: Summary.Value) -> None:
    found = read(value)
    assert found.scalars == {"loss": 0.5}
    assert (found.step, found.wall_time_ns, found.values, found.histograms) == (3, 1_500_000_000, 1, {})


def test_a_tag_whose_plugin_came_with_its_first_value_alone_is_known() -> None:
    reader = EventReader()
    first = tensor("loss", TensorProto(dtype="DT_FLOAT", float_val=[1.0]))
    later = Summary.Value(tag="loss", tensor=TensorProto(dtype="DT_FLOAT", float_val=[2.0]))
    assert read(first, reader=reader).scalars == {"loss": 1.0}
    assert read(later, reader=reader).scalars == {"loss": 2.0}
    assert read(later).scalars == {}


@pytest.mark.parametrize(
    "value",
    [
        tensor("a", TensorProto(dtype="DT_FLOAT", float_val=[1.0, 2.0])),
        tensor("a", TensorProto(dtype="DT_FLOAT", tensor_content=b"abc")),
        tensor("a", TensorProto(dtype="DT_STRING", string_val=[b"1.0"])),
        tensor("a", TensorProto(dtype="DT_DOUBLE", double_val=[1.0] * 6), "pr_curves"),
        tensor("a", TensorProto(dtype="DT_DOUBLE", double_val=[1.0] * 4), "histograms"),
        Summary.Value(tag="a", image=Summary.Image(encoded_image_string=b"png")),
        text_value("a", "nan"),
    ],
    ids=["two numbers", "odd bytes", "text", "another plugin", "no rows of three", "picture", "words"],
)
def test_what_is_neither_scalar_nor_histogram_tells_nothing(value: Summary.Value) -> None:
    found = read(value)
    assert (found.scalars, found.histograms, found.settings, found.values) == ({}, {}, {}, 1)


def test_both_forms_of_a_histogram_have_moments() -> None:
    old = HistogramProto(min=-1, max=2, num=3, sum=1.5, sum_squares=5.25, bucket_limit=[2], bucket=[3])
    assert read(Summary.Value(tag="w", histo=old)).histograms["w"] == (3, -1, 2, 1.5, 5.25)
    rows = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 2.0], [1.0, 3.0, 1.0], [3.0, 4.0, 0.0]])
    new = tensor("w", TensorProto(dtype="DT_DOUBLE", tensor_content=rows.tobytes()), "histograms")
    assert read(new).histograms["w"] == (3.0, 0.0, 3.0, 3.0, 4.5)


def test_a_histogram_without_values_has_none() -> None:
    empty = tensor("w", TensorProto(dtype="DT_DOUBLE", double_val=[0.0] * 6), "histograms")
    assert read(empty).histograms["w"].values == 0


def test_hyperparameters_are_read_as_tensorboardx_writes_them() -> None:
    _, start, end = hparams({"lr": 0.1, "name": "a", "amp": True, "epochs": 3}, {"accuracy": 0.5})
    found = read(*start.value, *end.value)
    assert found.settings == {"amp": True, "epochs": 3.0, "lr": 0.1, "name": "a"}


def test_a_session_start_is_told() -> None:
    for status in (SessionLog.START, SessionLog.STOP):
        event = Event(step=7, session_log=SessionLog(status=status))
        found = EventReader().read(memoryview(event.SerializeToString()))
        assert (found.starts, found.step) == (status == SessionLog.START, 7)


def test_a_part_comes_before_the_tag() -> None:
    assert read(Summary.Value(tag="loss", simple_value=1), part="validation/").scalars == {"validation/loss": 1.0}


def test_a_tag_that_moves_the_cursor_does_not_and_a_long_one_is_cut() -> None:
    assert list(read(Summary.Value(tag="a\x1b[2J", simple_value=1)).scalars) == ["a\N{REPLACEMENT CHARACTER}[2J"]
    assert len(next(iter(read(Summary.Value(tag="x" * 100_000, simple_value=1)).scalars))) < 1_000


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e300])
def test_a_time_that_is_none_is_zero(seconds: float) -> None:
    assert read(wall_time=seconds).wall_time_ns == 0


def test_bytes_that_are_no_event_are_malformed() -> None:
    with pytest.raises(Malformed, match="no event"):
        EventReader().read(memoryview(b"\xff" * 9))


def test_an_event_as_large_as_nobody_logs_is_not_parsed() -> None:
    with pytest.raises(TooLarge, match="event in bytes"):
        EventReader().read(memoryview(bytes(EVENT_SIZE_MAX_BYTES + 1)))


def test_a_small_file_does_not_become_a_large_memory() -> None:
    """Protobuf takes a hundred bytes for an empty value of two bytes."""
    bomb = Event(summary=Summary(value=[Summary.Value()] * 600_000)).SerializeToString()
    with pytest.raises(Malformed, match="fields"):
        EventReader().read(memoryview(bomb))


EXAMPLES: list[Message] = [
    Event(step=3, summary=Summary(value=[Summary.Value(tag="loss", simple_value=0.5)])),
    Event(
        summary=Summary(value=[tensor("w", TensorProto(dtype="DT_DOUBLE", double_val=[0.0, 1.0, 2.0]), "histograms")])
    ),
    Event(summary=hparams({"lr": 0.1}, {"accuracy": 0.5})[1]),
]


@given(st.sampled_from(EXAMPLES), st.data())
def test_damaged_bytes_are_read_or_are_a_protocol_error(event: Any, data: st.DataObject) -> None:
    whole = bytearray(event.SerializeToString())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    for damaged in (whole, cut):
        try:
            EventReader().read(memoryview(bytes(damaged)))
        except ProtocolError:
            continue
