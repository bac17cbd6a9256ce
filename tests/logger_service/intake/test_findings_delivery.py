"""Which trainer is told which findings and when, with a network that only notes the messages."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from support.logger.noted_logger import NotedLogger
from support.records.golden import FINDING

from tensorboard_sidecar.logger_service.intake.findings_delivery import TELL_INTERVAL_SECONDS, FindingsDelivery
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import FINDINGS_KNOWN_MAX, FINDINGS_MESSAGE_MAX
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Ack, Findings, Hello, Reject

CLEARED = replace(FINDING, state="cleared")
STREAM = Stream("demo", 0, 0, bytes(range(16)))


class Told:
    """A logger whose trainers are told findings; ``hear`` returns what a peer was told since the last call."""

    def __init__(self, folder: Path, remembered_max: int = 1000) -> None:
        self.logger = NotedLogger(folder)
        self.news: list[tuple[Stream, Finding]] = []
        self.delivery = FindingsDelivery(
            self.logger.dispatcher,
            lambda stream, finding: self.news.append((stream, finding)),
            remembered_max=remembered_max,
        )
        self.counts = self.logger.dispatcher.counts

    def hello(self, peer: bytes, stream: Stream = STREAM, *, asks: bool = True) -> None:
        self.logger.say(peer, Hello(stream.id, stream.run, stream.rank, stream.attempt, 1, asks))

    def step(self, seconds: float = TELL_INTERVAL_SECONDS) -> None:
        self.logger.now += seconds
        self.delivery.step(self.logger.now)

    def hear(self, peer: bytes = b"a") -> list[Finding]:
        said = [message for message in self.logger.network.take(peer) if isinstance(message, Findings)]
        return [finding for message in said for finding in message.findings]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path)


def of(number: int) -> Finding:
    return replace(FINDING, tag=f"tag {number}")


def test_a_trainer_that_asks_is_told_what_opens_and_what_clears(told: Told) -> None:
    told.hello(b"a")
    told.delivery.take(STREAM.id, FINDING)
    told.step()
    assert told.hear() == [FINDING]
    told.step()
    assert told.hear() == []
    told.delivery.take(STREAM.id, FINDING)
    told.step()
    assert told.hear() == [], "nothing has changed"
    told.delivery.take(STREAM.id, CLEARED)
    told.step()
    assert told.hear() == [CLEARED]
    assert told.counts.findings == 2


def test_a_trainer_that_does_not_ask_is_told_nothing(told: Told) -> None:
    """An earlier trainer would close its connection at a message that it does not know."""
    told.hello(b"a", asks=False)
    told.delivery.take(STREAM.id, FINDING)
    told.step()
    assert told.hear() == []
    told.hello(b"a")
    told.step()
    assert told.hear() == [FINDING]


def test_the_findings_of_a_stream_are_for_its_own_trainer(told: Told) -> None:
    other = Stream("other")
    told.hello(b"a")
    told.hello(b"b", other)
    told.delivery.take(other.id, FINDING)
    told.delivery.take(Stream("absent").id, FINDING)
    told.step()
    assert (told.hear(b"a"), told.hear(b"b")) == ([], [FINDING])


def test_after_a_new_connection_everything_is_told_again_open_findings_first(told: Told) -> None:
    told.hello(b"a")
    told.delivery.take(STREAM.id, CLEARED)
    told.delivery.take(STREAM.id, of(1))
    told.step()
    told.hear()
    told.logger.network.gone.add(b"a")
    told.delivery.take(STREAM.id, of(2))
    told.step()
    told.hello(b"b")
    told.step(0.1)
    assert told.hear(b"b") == [of(1), of(2), CLEARED]


def test_what_came_while_no_trainer_was_there_waits(told: Told) -> None:
    told.delivery.take(STREAM.id, FINDING)
    told.step()
    told.hello(b"a")
    told.step()
    assert told.hear() == [FINDING]


def test_a_stream_is_told_one_message_a_second(told: Told) -> None:
    told.hello(b"a")
    for number in range(2 * FINDINGS_MESSAGE_MAX + 1):
        told.delivery.take(STREAM.id, of(number))
    sizes = []
    for _ in range(40):
        told.step(TELL_INTERVAL_SECONDS / 10)
        sizes.append(len(told.hear()))
    assert [size for size in sizes if size] == [FINDINGS_MESSAGE_MAX, FINDINGS_MESSAGE_MAX, 1]
    assert [at for at, size in enumerate(sizes) if size][1] >= 9


def test_findings_that_cannot_be_sent_wait(told: Told) -> None:
    """The peer does not read, or is gone; a message that ZeroMQ drops must not count as told."""
    told.hello(b"a")
    told.logger.network.gone.add(b"a")
    told.delivery.take(STREAM.id, FINDING)
    told.step()
    assert told.counts.findings == 0
    told.logger.network.gone.clear()
    told.step()
    assert told.hear() == [FINDING]


def test_findings_never_delay_an_acknowledgement(told: Told) -> None:
    told.hello(b"a")
    told.delivery.take(STREAM.id, FINDING)
    told.logger.data(b"a", 1, 4)
    told.step()
    told.logger.wait()
    said = told.logger.network.take(b"a")
    assert [type(message) for message in said] == [Findings, Ack]


def test_hooks_are_told_each_change_whether_the_trainer_asks_or_not(told: Told) -> None:
    told.hello(b"a", asks=False)
    for finding in (FINDING, FINDING, CLEARED):
        told.delivery.take(STREAM.id, finding)
        told.step()
    assert told.news == [(STREAM, FINDING), (STREAM, CLEARED)]


def test_hooks_are_told_of_a_stream_when_its_trainer_comes(told: Told) -> None:
    """After a restart of the logger the projection may be faster than the trainer. Old recordings are no news."""
    told.delivery.take(Stream("of last year").id, FINDING)
    told.delivery.take(STREAM.id, FINDING)
    told.step()
    assert told.news == []
    told.hello(b"a")
    told.step()
    assert told.news == [(STREAM, FINDING)]


def test_a_trainer_that_sends_findings_is_refused(told: Told) -> None:
    told.hello(b"a")
    [said] = told.logger.say(b"a", Findings([FINDING]))
    assert isinstance(said, Reject)
    assert "a trainer does not send Findings" in said.reason


def test_the_names_of_a_stream_are_known_after_its_end(told: Told) -> None:
    told.hello(b"a")
    told.logger.dispatcher.handle(b"a", b"\1\7\x80", told.logger.now)
    assert told.logger.streams.stream_with_id(STREAM.id) == STREAM
    assert told.logger.streams.peer_for_findings(STREAM.id) is None
    assert told.logger.streams.stream_with_id(bytes(16)) is None


def test_a_full_stream_forgets_cleared_findings_and_takes_no_new_ones_beyond(told: Told) -> None:
    told.delivery.take(STREAM.id, replace(of(0), state="cleared"))
    for number in range(1, FINDINGS_KNOWN_MAX + 5):
        told.delivery.take(STREAM.id, of(number))
    assert len(told.delivery) == FINDINGS_KNOWN_MAX
    told.hello(b"a")
    heard: list[Finding] = []
    for _ in range(FINDINGS_KNOWN_MAX // FINDINGS_MESSAGE_MAX + 1):
        told.step()
        heard += told.hear()
    assert sorted(heard, key=str) == sorted(map(of, range(1, FINDINGS_KNOWN_MAX + 1)), key=str)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=80))
def test_the_findings_of_all_streams_together_are_bounded(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, bool]]
) -> None:
    """And those of the streams that changed last are there."""
    told = Told(tmp_path_factory.mktemp("journal"), remembered_max=12)
    for stream, number, is_open in changes:
        told.delivery.take(bytes([stream]) * 16, of(number) if is_open else replace(of(number), state="cleared"))
    held = Counter({stream: len(one.known) for stream, one in told.delivery._told.items()})
    assert held.total() == len(told.delivery) <= 12
    if changes:
        assert bytes([changes[-1][0]]) * 16 in held
