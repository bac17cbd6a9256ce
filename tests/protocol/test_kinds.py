"""The table of kinds: nothing about a kind is left to a default.

Whoever adds a kind meets these tests, mypy (``assert_never``), or both.
"""

import ast
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final, get_args

import msgspec
import pytest
from support.records.golden import RECORDS
from support.records.recordings import every_kind
from support.records.strategies import MESSAGES
from support.source import Source, dotted_name, sources

from tensorboard_sidecar.protocol.array import Array
from tensorboard_sidecar.protocol.codec import decode_message, encode_body
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.kinds import KINDS, PICTURES, SILENT, MessageKind, check_message, find_kind, kind_of
from tensorboard_sidecar.protocol.limits import KINDS_MAX, TEXT_MAX_CHARACTERS
from tensorboard_sidecar.protocol.messages import (
    Boxes,
    Embedding,
    Gap,
    Images,
    Matrix,
    Message,
    SegmentHead,
    Tensor,
    TensorSummaries,
    UserMessage,
    Video,
)
from tensorboard_sidecar.protocol.record import Kind, Record

MESSAGE_TYPES: Final = get_args(Message)
NAMES_OF_MESSAGES: Final = {message_type.__name__ for message_type in MESSAGE_TYPES} | {UserMessage.__name__}


def test_every_kind_has_a_row_and_every_message_type_too() -> None:
    """Rows are in the order of the numbers, which have no hole: the outbox looks limits up in a list."""
    assert [row.kind for row in KINDS] == list(Kind) == list(range(len(KINDS)))
    assert tuple(row.message_type for row in KINDS) == MESSAGE_TYPES
    assert len(KINDS) <= KINDS_MAX


@pytest.mark.parametrize("name", [field.name for field in fields(MessageKind)])
def test_a_row_without_a_decision_is_refused(name: str) -> None:
    decided = {field.name: getattr(KINDS[0], field.name) for field in fields(MessageKind)}
    del decided[name]
    with pytest.raises(TypeError, match=name):
        MessageKind(**decided)


def test_every_share_of_the_outbox_is_a_share() -> None:
    assert all(0 < row.outbox_share <= 1 for row in KINDS)


def test_pictures_are_the_kinds_that_are_drawn() -> None:
    assert (TensorSummaries, Matrix, Images, Embedding, Video, Boxes) == PICTURES


def test_all_but_the_records_about_the_stream_itself_show_something() -> None:
    """A gap says that records are missing, and every value of a user is one to show."""
    assert {row.kind for row in KINDS if not row.shows} == SILENT == {Kind.SEGMENT, Kind.RUN_START, Kind.RUN_END}
    assert all(row.shows for row in KINDS if issubclass(row.message_type, UserMessage))


def test_a_kind_is_found_by_number_and_by_message() -> None:
    for row, golden in zip(KINDS, RECORDS.values(), strict=True):
        assert find_kind(int(row.kind)) is row
        assert kind_of(golden.message) is row.kind


def test_the_kind_of_a_newer_program_has_no_row() -> None:
    assert find_kind(len(KINDS)) is find_kind(255) is find_kind(-1) is None


def test_names_are_those_of_gaps_and_titles_those_for_people() -> None:
    assert [(row.name, row.title) for row in KINDS[2:4]] == [
        ("scalars", "scalars"),
        ("tensor_summaries", "tensor summaries"),
    ]


def test_every_kind_has_an_example_for_every_suite() -> None:
    assert [type(golden.message) for golden in RECORDS.values()] == list(MESSAGE_TYPES)
    assert set(MESSAGES) == set(MESSAGE_TYPES)
    assert {type(message) for _, message in every_kind((1,))} == set(MESSAGE_TYPES) - {SegmentHead, Gap}


def hostile_changes() -> Iterator[tuple[str, str, Any]]:
    """Yield (example, field, value) for values that no kind may take in such a field."""
    for name, golden in RECORDS.items():
        for field in golden.message.__struct_fields__:
            match getattr(golden.message, field):
                case str():
                    yield name, field, "x" * (TEXT_MAX_CHARACTERS + 1)
                case Array():
                    yield name, field, Array("object", (1,), bytes(8))
                case [Array(), *_]:
                    yield name, field, [Array("object", (1,), bytes(8))]
            if field == "tag":
                yield name, field, ""
                yield name, field, "line\nbreak"
            if field in ("values", "summaries", "parameters", "metrics") and not isinstance(
                golden.message, Matrix | Tensor
            ):
                yield name, field, {"": next(iter(getattr(golden.message, field).values()))}


@pytest.mark.parametrize(("name", "field", "value"), list(hostile_changes()), ids=lambda part: str(part)[:20])
def test_no_kind_takes_a_wrong_tag_a_wrong_array_or_an_endless_text(name: str, field: str, value: Any) -> None:
    """A check that looks at too little passes its golden example too."""
    record = RECORDS[name].record
    changed = msgspec.structs.replace(RECORDS[name].message, **{field: value})
    with pytest.raises(ProtocolError):
        decode_message(Record(record.kind, record.sequence, 0, 0, encode_body(changed), record.span))


def test_a_check_is_for_the_messages_of_its_row() -> None:
    for golden in RECORDS.values():
        check_message(golden.message)


def matches_over_messages(source: Source) -> Iterator[ast.Match]:
    """Yield the match statements with a pattern for a class of messages."""
    for node in source.nodes:
        if isinstance(node, ast.Match):
            patterns = [part for case in node.cases for part in ast.walk(case.pattern)]
            names = {dotted_name(part.cls).rpartition(".")[2] for part in patterns if isinstance(part, ast.MatchClass)}
            if names & NAMES_OF_MESSAGES:
                yield node


def ends_in_assert_never(match: ast.Match) -> bool:
    """Tell whether the last case is ``case _: assert_never(...)``, which mypy checks."""
    last = match.cases[-1]
    call = last.body[-1].value if isinstance(last.body[-1], ast.Expr) else None
    everything = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
    return everything and isinstance(call, ast.Call) and dotted_name(call.func) == "assert_never"


def test_every_match_over_messages_ends_in_assert_never() -> None:
    found = [(source.path, match) for source in sources() for match in matches_over_messages(source)]
    product = [(path, match) for path, match in found if not path.startswith("tests/")]
    assert len(product) >= 3  # events, files beside the events, contents
    assert not [f"{path}:{match.lineno}" for path, match in product if not ends_in_assert_never(match)]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ("case _: assert_never(message)", True),
        ("case _: pass", False),
        ("case _ if known: assert_never(message)", False),
        ("case Gap(): assert_never(message)", False),
    ],
)
def test_the_rule_for_matches_bites(last: str, expected: bool) -> None:
    text = f"match message:\n    case messages.Scalars() if message.values: show(message)\n    {last}"
    (match,) = matches_over_messages(Source.parse("protocol/x.py", text))
    assert ends_in_assert_never(match) is expected
