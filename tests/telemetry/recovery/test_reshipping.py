"""When the delivery of an orphan over a link gives up; the link is a stub, the clock is the test's."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.recordings import START_NS, make_stream

from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox
from tensorboard_sidecar.protocol.outbox.orphan_delivery import NotDelivered
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.recovery.reshipping import LinkDelivery, TimedLinkDelivery
from tensorboard_sidecar.telemetry.shipping.send_session import SessionState

ENDPOINT = "tcp://127.0.0.1:5555"


class StubLink:
    """A link whose session the test moves; nothing is ever sent."""

    def __init__(self) -> None:
        self.endpoint = ENDPOINT
        self.session = SimpleNamespace(acked_sequence=1, state=SessionState.STREAMING, reason="")
        self.waits = 0

    def step(self, _now_seconds: float) -> bool:
        return False

    def wait(self, _seconds: float) -> bool:
        self.waits += 1
        return True


@pytest.fixture
def orphan(memory: Path) -> OrphanedOutbox:
    outbox = Outbox(memory / "a", make_stream(), capacity_bytes=2**20, wall_time_ns=START_NS)
    for step in range(10):
        outbox.append(Kind.SCALARS, step, START_NS, b"x")
    outbox.close(keep=True)
    return OrphanedOutbox(outbox.folder)


def test_progress_extends_the_deadline(orphan: OrphanedOutbox) -> None:
    link: Any = StubLink()
    delivery = LinkDelivery(orphan, link, 0.0, 30.0)
    for acked_sequence in range(2, 11):
        link.session.acked_sequence = acked_sequence
        delivery.step(20.0 * acked_sequence)
    delivery.step(230.0)
    with pytest.raises(NotDelivered, match=f"^no logger answered at {ENDPOINT} within 30 seconds$") as raised:
        delivery.step(230.1)
    assert raised.value.retry
    link.session.acked_sequence = 11
    delivery.step(1000.0)
    assert delivery.result == "shipped"
    assert link.waits == 0


def test_progress_does_not_extend_a_total_deadline(orphan: OrphanedOutbox) -> None:
    link: Any = StubLink()
    delivery = TimedLinkDelivery(orphan, link, 0.0, 30.0)
    for acked_sequence in range(2, 11):
        link.session.acked_sequence = acked_sequence
        delivery.step(3.0 * acked_sequence)
    assert link.waits == 9
    link.session.reason = "busy"
    with pytest.raises(NotDelivered, match=r"^busy$"):
        delivery.step(30.1)


def test_a_refusal_is_final(orphan: OrphanedOutbox) -> None:
    link: Any = StubLink()
    link.session.state, link.session.reason = SessionState.REFUSED, "not yours"
    with pytest.raises(NotDelivered, match=r"^not yours$") as raised:
        LinkDelivery(orphan, link, 0.0, 30.0).step(0.0)
    assert not raised.value.retry
