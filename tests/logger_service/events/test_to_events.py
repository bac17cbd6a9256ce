"""Events of every kind of record, and the fast path of scalars."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.records.events import id_of
from support.records.golden import RECORDS
from support.records.recordings import START_NS, STREAM_ID, every_kind, make_records, summarise
from support.records.strategies import messages
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.node_def_pb2 import NodeDef
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events.identity import BESIDE_PLACE
from tensorboard_sidecar.logger_service.events.to_events import ScalarEvents, beside, blank, project, row_event
from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.kinds import check_message, kind_of
from tensorboard_sidecar.protocol.limits import STEP_MAX, TEXT_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import (
    SESSION_START,
    Audio,
    Gap,
    Graph,
    HParams,
    Images,
    Matrix,
    Message,
    Overlay,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
)
from tensorboard_sidecar.protocol.messages import Event as EventMessage
from tensorboard_sidecar.protocol.record import Kind, Record


def say(
    message: Message | None, *, step: int = 7, sequence: int = 5, span: int = 1, kind: int = Kind.SCALARS
) -> list[Event]:
    """Return the events of a message; none of its parts may fail."""
    projected = project(message, Record(kind, sequence, step, START_NS, b"", span), STREAM_ID)
    assert not projected.failures
    return [Event.FromString(event) for event in projected.events]


def values(message: Message) -> dict[str, Any]:
    (event,) = say(message)
    return {value.tag: value for value in event.summary.value}


def test_a_session_starts_twice_since_the_slow_loader_ignores_the_first_start_of_a_run() -> None:
    starts = say(EventMessage(SESSION_START), step=-3)
    assert [(start.session_log.status, start.step) for start in starts] == 2 * [(SessionLog.START, -3)]
    assert Event.FromString(SESSION_START) == Event(session_log=SessionLog(status=SessionLog.START))


def test_a_session_starts_in_the_folder_of_the_run_alone() -> None:
    message = EventMessage(SESSION_START, "beside")
    with pytest.raises(Malformed, match="session_log"):
        beside(message, Record(Kind.EVENT, 5, 7, START_NS, b"", 1), STREAM_ID)


@pytest.mark.parametrize("record", make_records(every_kind((3,))), ids=lambda record: Kind(record.kind).name.lower())
def test_every_event_of_every_kind_has_time_step_and_an_id_of_its_own(record: Record) -> None:
    events = [Event.FromString(event) for event in project(decode_message(record), record, STREAM_ID).events]
    assert [id_of(event) for event in events] == [
        f"{STREAM_ID.hex()}/{record.sequence}/{n}" for n in range(len(events))
    ]
    assert {event.wall_time for event in events} == {record.wall_time_ns / 1e9}
    assert {event.step for event in events} == {record.step}


def test_values_of_one_step_share_an_event() -> None:
    (event,) = say(Scalars({"loss/total": 1.0, "loss/text": 2.0}))
    assert [(value.tag, value.simple_value) for value in event.summary.value] == [
        ("loss/total", 1.0),
        ("loss/text", 2.0),
    ]


@pytest.mark.parametrize("message", [None, Scalars({}), Graph([])])
def test_a_record_that_shows_nothing_leaves_an_event_without_content(message: Message | None) -> None:
    (event,) = say(message)
    (value,) = event.summary.value
    assert (value.tag, value.WhichOneof("value")) == ("", None)
    assert id_of(event) == f"{STREAM_ID.hex()}/5/0"


def test_a_blank_event_is_that_of_a_record_that_shows_nothing() -> None:
    record = Record(99, 5, 7, START_NS, b"")
    assert blank(record, STREAM_ID) == project(None, record, STREAM_ID).events


def test_an_attempt_starts_after_the_step_it_goes_on_from() -> None:
    """The slow loader drops earlier points from the step of a START on; those of the checkpoint's own step stay."""
    start, config = say(RunStart(100, {"lr": 0.1, "a|b": "c"}))
    assert (start.session_log.status, start.step) == (SessionLog.START, 101)
    (value,) = config.summary.value
    assert value.tag == "run/config"
    assert value.tensor.string_val[0].decode().splitlines()[2:] == [r"| lr | 0\.1 |", r"| a\|b | c |"]


def test_a_config_is_no_longer_than_a_text_may_be() -> None:
    _, config = say(RunStart(0, {f"setting {number}": "*" * 4000 for number in range(1000)}))
    (text,) = config.summary.value[0].tensor.string_val
    assert 900_000 < len(text) <= TEXT_MAX_CHARACTERS
    assert text.decode().splitlines()[-1] == "| *876 more* |  |"


def test_of_very_many_groups_some_have_an_overview_and_all_have_their_histograms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An overview takes 60 ms, and the 10,000 that a record has room for would hold up all runs for ten minutes."""
    monkeypatch.setattr(
        "tensorboard_sidecar.logger_service.events.to_events.layer_overview", lambda *_, **__: Picture(b"", 1, 1)
    )
    summary = summarise([1.0])
    for groups, layers, drawn in ((65, 2, 64), (1_000, 2, 64), (30, 600, 16), (64, 2, 64), (1, 2_000, 1)):
        tags = [f"{group}/{layer}" for group in range(groups) for layer in range(layers)]
        message = TensorSummaries(dict.fromkeys(tags, summary))
        projected = project(message, Record(Kind.TENSOR_SUMMARIES, 1, 1, START_NS, b""), STREAM_ID)
        shown = Event.FromString(projected.events[0]).summary.value
        assert [value.tag for value in shown if value.HasField("histo")] == tags
        assert [value.tag for value in shown if value.HasField("image")] == [f"histograms/{n}" for n in range(drawn)]
        assert [type(failure) for failure in projected.failures] == [TooLarge] * (groups > drawn)


def test_a_run_without_config_only_starts() -> None:
    (start,) = say(RunStart())
    assert (start.session_log.status, start.step) == (SessionLog.START, 0)


def test_the_metrics_of_hyperparameters_are_curves_of_the_run_and_the_rest_is_in_the_row() -> None:
    """In the run's own folder the parameters of one trial would be beside the values of another."""
    message = HParams({"lr": 0.1}, {"best": 0.5})
    (event,) = say(message)
    assert [(value.tag, value.simple_value) for value in event.summary.value] == [("best", 0.5)]
    (nothing,) = say(HParams({"lr": 0.1}, {}))
    assert nothing.summary.value[0].tag == ""
    record = Record(Kind.HPARAMS, 5, 7, START_NS, b"")
    identity, serialised = row_event(message, record, STREAM_ID)
    row = Event.FromString(serialised)
    assert (row.step, row.wall_time, id_of(row)) == (7, START_NS / 1e9, str(identity))
    assert str(identity) == f"{STREAM_ID.hex()}/5/1"
    assert [value.tag for value in row.summary.value][2:] == ["best"]


def test_the_metrics_of_a_row_with_a_folder_are_curves_there_alone() -> None:
    message = HParams({"lr": 0.1}, {"best": 0.5}, "row", {"lr": [0.1, 0.2]})
    (nothing,) = say(message)
    assert [value.tag for value in nothing.summary.value] == [""]
    ((folder, event),) = say_beside(message)
    tags = ["_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info", "best"]
    assert (folder, [value.tag for value in event.summary.value]) == ("row", tags)
    assert say_beside(HParams({"lr": 0.1}, {"best": 0.5})) == []


def say_beside(message: Message, *, step: int = 7) -> list[tuple[str, Event]]:
    """Return folder and event of a message; step, time and id are those of the record."""
    found = beside(message, Record(kind_of(message), 5, step, START_NS, b""), STREAM_ID)
    shown = [(folder, Event.FromString(event)) for folder, _, event in found]
    assert all((event.step, event.wall_time) == (step, START_NS / 1e9) for _, event in shown)
    assert all(id_of(event) == f"{STREAM_ID.hex()}/5/{BESIDE_PLACE}" for _, event in shown)
    return shown


def test_an_overlay_is_a_point_in_each_of_its_folders_and_none_in_the_run() -> None:
    message = Overlay("loss", {"loss_train": 0.5, "loss_val": 1.5})
    (nothing,) = say(message)
    assert nothing.summary.value[0].tag == ""
    shown = [(folder, event.summary.value[0]) for folder, event in say_beside(message, step=-1)]
    assert [(folder, value.tag, value.simple_value) for folder, value in shown] == [
        ("loss_train", "loss", 0.5),
        ("loss_val", "loss", 1.5),
    ]


def test_an_event_of_another_program_keeps_its_content_and_takes_step_and_time_of_its_record() -> None:
    summary = Summary(value=[Summary.Value(tag="a", simple_value=1.0), Summary.Value(tag="b", simple_value=2.0)])
    given = Event(wall_time=1.0, step=99, summary=summary).SerializeToString()
    (event,) = say(EventMessage(given))
    assert (event.step, event.wall_time) == (7, START_NS / 1e9)
    assert [(value.tag, value.simple_value) for value in event.summary.value] == [("a", 1.0), ("b", 2.0)]
    (nothing,) = say(EventMessage(given, "sub"))
    assert nothing.summary.value[0].tag == ""
    assert [folder for folder, _ in say_beside(EventMessage(given, "sub"))] == ["sub"]
    assert say_beside(EventMessage(given)) == []


def test_a_graph_of_another_program_has_the_id_in_its_first_node() -> None:
    graph = GraphDef(node=[NodeDef(name="a", op="x"), NodeDef(name="b", op="y", input=["a"])])
    (event,) = say(EventMessage(Event(graph_def=graph.SerializeToString()).SerializeToString()))
    assert id_of(event) == f"{STREAM_ID.hex()}/5/0"
    assert [(node.name, list(node.input)) for node in GraphDef.FromString(event.graph_def).node] == [
        ("a", []),
        ("b", ["a"]),
    ]


@pytest.mark.parametrize("folder", ["", "sub"])
def test_an_event_that_is_none_is_malformed_in_its_folder_alone(folder: str) -> None:
    record = Record(Kind.EVENT, 5, 7, START_NS, b"")
    parts = (project, beside) if not folder else (beside, project)
    with pytest.raises(Malformed):
        parts[0](EventMessage(b"rubbish", folder), record, STREAM_ID)
    parts[1](EventMessage(b"rubbish", folder), record, STREAM_ID)


def test_an_attempt_that_continues_has_no_session_start() -> None:
    """The slow loader would drop the points of earlier attempts."""
    (config,) = say(RunStart(100, {"lr": 0.1}, continues=True))
    assert [value.tag for value in config.summary.value] == ["run/config"]
    (nothing,) = say(RunStart(0, continues=True))
    assert nothing.summary.value[0].tag == ""


def test_a_single_clip_is_a_summary_of_one_sound_with_its_caption_as_text() -> None:
    clip = pack_array(np.zeros((3, 1), np.int16))
    assert values(Audio("say", [clip], 8_000, single=True))["say"].WhichOneof("value") == "audio"
    assert list(values(Audio("say", [clip], 8_000, ["hm"], single=True))) == ["say", "say/captions"]
    assert values(Audio("say", [clip], 8_000))["say"].WhichOneof("value") == "tensor"


def test_a_picture_with_boxes_and_a_video_are_images() -> None:
    boxes, video = (RECORDS[name].message for name in ("boxes", "video"))
    picture = values(boxes)["box"].image
    assert (picture.width, picture.height) == (4, 4)
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert values(video)["vid"].image.encoded_image_string.startswith(b"GIF89a")


def test_a_run_says_how_it_ended() -> None:
    assert values(RunEnd("interrupted"))["run/status"].tensor.string_val == [b"**interrupted** at step 7"]


def test_a_gap_is_a_number_and_a_text() -> None:
    (event,) = say(Gap("outbox full", {"matrix": 2, "images": 1}), sequence=5, span=3)
    number, text = event.summary.value
    assert (number.tag, number.simple_value) == ("telemetry/gap_records", 3.0)
    assert text.tag == "telemetry/gaps"
    assert text.tensor.string_val[0].decode().splitlines() == [
        "**3 records missing**, sequence 5 to 7",
        "",
        "outbox full",
        "",
        "| kind | records |",
        "| --- | --- |",
        "| matrix | 2 |",
        "| images | 1 |",
    ]


def test_the_id_of_a_gap_is_the_last_number_it_stands_for() -> None:
    """The next record to project is then always the record after the last id."""
    (event,) = say(Gap("outbox full"), sequence=5, span=3)
    assert id_of(event) == f"{STREAM_ID.hex()}/7/0"


def test_groups_of_two_and_more_get_an_overview() -> None:
    summary = summarise([0.5, 1.0])
    tags = ["weights/a.b", "weights/c", "gradients/a", "bias", "bias", "other/x/y", "other/z"]
    found = values(TensorSummaries(dict.fromkeys(tags, summary)))
    assert [tag for tag in found if found[tag].HasField("image")] == ["histograms/weights", "histograms/other"]
    assert [tag for tag in found if found[tag].HasField("histo")] == list(dict.fromkeys(tags))


def test_an_overview_that_cannot_be_drawn_costs_no_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tensorboard_sidecar.logger_service.events.to_events.layer_overview", explode)
    message = TensorSummaries(dict.fromkeys(["weights/a", "weights/b"], summarise([1.0])))
    projected = project(message, Record(Kind.TENSOR_SUMMARIES, 1, 0, START_NS, b""), STREAM_ID)
    assert [type(failure) for failure in projected.failures] == [ZeroDivisionError]
    (event,) = (Event.FromString(event) for event in projected.events)
    assert [value.tag for value in event.summary.value] == ["weights/a", "weights/b"]


def test_pictures_are_one_image_of_their_tag() -> None:
    pictures = pack_array(np.zeros((3, 10, 12, 3), np.uint8))
    plain, captioned = (values(Images("samples/images", pictures, captions)) for captions in ([], ["a", "b", "c"]))
    assert list(plain) == list(captioned) == ["samples/images"]
    one = values(Images("a", pack_array(np.zeros((1, 10, 12, 1), np.uint8))))["a"].image
    assert (one.width, one.height) == (12, 10)


def test_a_heatmap_is_drawn_with_its_step() -> None:
    matrix = Matrix("similarity/text_vs_image", pack_array(np.eye(4, dtype=np.float16)))
    one, same, later = (say(matrix, step=step)[0].summary.value[0].image.encoded_image_string for step in (1, 1, 2))
    assert one == same != later


def test_what_cannot_be_shown_at_all_is_raised() -> None:
    matrix = Matrix("a", pack_array(np.zeros((0, 4), np.float32)))
    with pytest.raises(Malformed):
        say(matrix)


@settings(max_examples=60, deadline=None)
@given(messages, st.integers(-STEP_MAX, STEP_MAX), st.integers(-(2**63), 2**63 - 1))
def test_every_message_that_passes_its_checks_is_shown_the_same_way_twice(
    message: Message, step: int, wall_time_ns: int
) -> None:
    check_message(message)
    record = Record(kind_of(message), 1, step, wall_time_ns, b"")
    one, other = (project(message, record, STREAM_ID) for _ in range(2))
    assert one == other
    assert beside(message, record, STREAM_ID) == beside(message, record, STREAM_ID)
    assert one.events
    assert not one.failures


def scalars_record(sequence: int, step: int) -> Record:
    return Record(Kind.SCALARS, sequence, step, 1_700_000_000_123_456_789 + sequence, b"")


def test_the_fast_path_gives_the_same_bytes_as_the_slow_path() -> None:
    fast = ScalarEvents(STREAM_ID)
    messages = [
        Scalars({"loss": 0.5, "lr": 1e-3}),
        Scalars({"loss": math.nan, "lr": 1e300}),
        Scalars({"loss": 0.0, "lr": -0.0}),
        Scalars({"lr": 1.0, "loss": 2.0}),
        Scalars({"loss": 7.0}),
    ]
    for sequence, message in enumerate(messages * 2, 1):
        said = scalars_record(sequence, 10**sequence - 1)
        assert [fast.pack(message, said)] == project(message, said, STREAM_ID).events


def test_a_record_that_stands_for_several_numbers_has_the_id_of_the_last() -> None:
    """Scalars stand for one number, and follow the rule all the same: a projection reads its place from the ids."""
    message, said = Scalars({"loss": 0.5}), scalars_record(5, 0)._replace(span=10)
    assert [ScalarEvents(STREAM_ID).pack(message, said)] == project(message, said, STREAM_ID).events


@pytest.mark.parametrize(("sets", "tags", "characters"), [(3000, 1, 10), (300, 19, 20), (5, 2000, 60), (2, 2500, 500)])
def test_many_and_large_sets_of_tags_do_not_pile_up(sets: int, tags: int, characters: int) -> None:
    fast = ScalarEvents(STREAM_ID)
    for number in range(sets):
        message = Scalars({f"{number} {tag}".ljust(characters, "x"): 1.0 for tag in range(tags)})
        said = scalars_record(number + 1, 0)
        assert [fast.pack(message, said)] == project(message, said, STREAM_ID).events
    kept = sum(len(event.SerializeToString()) for _, event, _ in fast._events.values())
    assert kept <= 2**20


@pytest.mark.parametrize("tags", [19, 2000])
def test_sets_of_a_usual_size_are_kept(tags: int) -> None:
    fast = ScalarEvents(STREAM_ID)
    fast.pack(Scalars({f"a usual tag/{tag}": 1.0 for tag in range(tags)}), scalars_record(1, 0))
    assert len(fast._events) == 1
    fast.forget()
    assert not fast._events


def test_what_was_written_takes_no_memory() -> None:
    """A protobuf message keeps the memory of the earlier strings of a text field."""
    fast, message = ScalarEvents(STREAM_ID), Scalars({"loss": 0.5})

    def pack(records: int) -> int:
        for sequence in range(1, records + 1):
            fast.pack(message, scalars_record(sequence, sequence))
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before_bytes = pack(20_000)
    assert pack(200_000) - before_bytes < 4 * 2**20  # kept, they would be twice as much


def test_an_event_made_anew_gives_the_same_bytes() -> None:
    fast, message = ScalarEvents(STREAM_ID), Scalars({"loss": 0.5, "lr": 1.0})
    for sequence in range(1, 10_000):
        said = scalars_record(sequence, sequence)
        assert [fast.pack(message, said)] == project(message, said, STREAM_ID).events
