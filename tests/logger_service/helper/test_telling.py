"""What a client of a helper is told of the findings of its stream, and what it was told before."""

from collections.abc import Sequence

from msgspec.structs import replace
from support.records.golden import FINDING

from tensorboard_sidecar.logger_service.helper.telling import Telling
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import FINDINGS_MESSAGE_MAX

STREAM, OTHER = bytes(range(16)), bytes(16)


def due(telling: Telling, client: int, findings: Sequence[Finding]) -> list[Finding]:
    told = list(telling.due(client, {STREAM: findings, OTHER: [replace(FINDING, tag="other")]}))
    assert all(len(message.findings) <= FINDINGS_MESSAGE_MAX for message in told)
    return [finding for message in told for finding in message.findings]


def test_a_client_is_told_changes_once() -> None:
    telling = Telling()
    telling.begin(1, STREAM)
    assert due(telling, 1, [FINDING]) == [FINDING]
    assert due(telling, 1, [FINDING]) == []
    cleared = replace(FINDING, state="cleared")
    assert due(telling, 1, [cleared]) == [cleared]


def test_a_client_that_begins_again_is_told_everything() -> None:
    telling = Telling()
    telling.begin(1, STREAM)
    due(telling, 1, [FINDING])
    telling.begin(1, STREAM)
    assert due(telling, 1, [FINDING]) == [FINDING]


def test_many_findings_are_several_messages() -> None:
    many = [replace(FINDING, tag=f"tag {number}") for number in range(3 * FINDINGS_MESSAGE_MAX)]
    telling = Telling()
    telling.begin(1, STREAM)
    assert due(telling, 1, many) == many


def test_a_client_without_a_stream_and_a_client_that_is_gone_are_told_nothing() -> None:
    telling = Telling()
    telling.begin(1, None)
    telling.begin(2, STREAM)
    telling.forget(2)
    telling.forget(2)
    assert [due(telling, client, [FINDING]) for client in (1, 2, 3)] == [[], [], []]
