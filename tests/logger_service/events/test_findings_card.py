"""The card of a run's findings: what people read in TensorBoard, whatever the tags of strangers are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.records.recordings import START_NS, STREAM_ID
from tensorboardX.proto.event_pb2 import Event

from tensorboard_sidecar.logger_service.events.findings_card import findings_card, findings_event
from tensorboard_sidecar.logger_service.events.identity import EventId, announce_findings, find_id
from tensorboard_sidecar.logger_service.events.to_events import blank, project
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import TAG_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import Graph, GraphNode, RunStart
from tensorboard_sidecar.protocol.record import Kind, Record

OPEN = Finding("loss-spike", "warn", "loss", "open", 40, 1_044, 5, 3.2, {"value": 6.4, "median": 2.0}, "Look. Act.")
RECORD = Record(Kind.SCALARS, 7, 5, START_NS, b"")


def test_a_card_is_a_table_of_findings_and_a_table_of_what_was_not_checked() -> None:
    cleared = replace(OPEN, severity="info", tag="", state="cleared", first_step=3, last_step=3, evidence={})
    assert findings_card([OPEN, cleared], [("a", "no x"), ("b", "no y"), ("c", "no x")]).splitlines() == [
        "**1 open**, 1 cleared.",
        "",
        "|  | rule | tag | steps (samples) | evidence |",
        "| --- | --- | --- | --- | --- |",
        r"| warning | loss\-spike | loss | 40 to 1,044 \(5\) | value 6\.4, median 2 |",
        r"| information, cleared | loss\-spike |  | 3 \(5\) |  |",
        "",
        "| rule | what people do |",
        "| --- | --- |",
        r"| loss\-spike | Look\. Act\. |",
        "",
        "Not checked:",
        "",
        "| rules | because |",
        "| --- | --- |",
        "| a, c | no x |",
        "| b | no y |",
    ]


@given(st.lists(st.text(max_size=TAG_MAX_CHARACTERS), max_size=5))
def test_no_tag_leaves_its_cell(tags: list[str]) -> None:
    lines = findings_card([replace(OPEN, tag=tag) for tag in tags], []).split("\n")
    assert len(lines) == (8 + len(tags) if tags else 1)
    for line in lines[4 : 4 + len(tags)]:
        assert line.replace(r"\\", "").replace(r"\|", "").count("|") == 6


def test_a_card_is_bounded_and_says_how_many_findings_are_left_out() -> None:
    findings = [replace(OPEN, tag="|" * TAG_MAX_CHARACTERS, advice="x" * 1_000)] * 256
    not_checked = [("x" * 500, "|" * 500 + f"{number}") for number in range(1_000)]
    card = findings_card(findings, not_checked)
    assert len(card) < 70_000
    assert "more* |" in card
    assert card.startswith("**256 open**, 0 cleared.")


@pytest.mark.parametrize("card", ["a card", None])
def test_an_event_has_the_number_of_open_findings_and_perhaps_the_card(card: str | None) -> None:
    event = Event.FromString(findings_event(card, 3, START_NS, 9, EventId(STREAM_ID, 7, 1)))
    assert (event.step, event.wall_time, find_id(event)) == (9, START_NS / 1e9, EventId(STREAM_ID, 7, 1))
    shown = {value.tag: value for value in event.summary.value}
    assert list(shown) == ["findings/open", "findings"][: 1 + (card is not None)]
    assert shown["findings/open"].simple_value == 3.0
    if card is not None:
        assert shown["findings"].metadata.plugin_data.plugin_name == "text"
        assert shown["findings"].tensor.string_val == [b"a card"]


def own_events() -> list[bytes]:
    """Return events of each shape that holds an id."""
    start = project(RunStart(3, {"lr": 0.1}), RECORD, STREAM_ID).events
    graph = project(Graph([GraphNode("a", "Input")]), RECORD, STREAM_ID).events
    return [*blank(RECORD, STREAM_ID), *start, *graph]


@pytest.mark.parametrize("own", own_events(), ids=["a summary", "a session start", "a config", "a graph"])
def test_an_event_of_any_shape_announces_findings_in_its_id_alone(own: bytes) -> None:
    before, after = Event.FromString(own), Event.FromString(announce_findings(own))
    identity = find_id(before)
    assert identity is not None
    assert find_id(after) == identity._replace(more=True)
    assert str(find_id(after)) == f"{identity}+"
    assert announce_findings(announce_findings(own)) == announce_findings(own)
    assert EventId.parse(f"{identity}++") is None
    assert identity < identity._replace(more=True) < identity._replace(place=identity.place + 1)
