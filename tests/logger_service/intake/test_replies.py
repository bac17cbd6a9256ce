from support.logger.noted_logger import NotedNetwork

from tensorboard_sidecar.logger_service.intake.replies import REPLY_INTERVAL_SECONDS, Replies, ReplyLimiter
from tensorboard_sidecar.protocol.wire import Bye, Nak, WireMessage


def test_each_peer_is_answered_once_a_second() -> None:
    limiter = ReplyLimiter()
    assert limiter.may_answer(b"a", 5.0)
    assert not limiter.may_answer(b"a", 5.0 + REPLY_INTERVAL_SECONDS / 2)
    assert limiter.may_answer(b"b", 5.0)
    assert limiter.may_answer(b"a", 5.0 + REPLY_INTERVAL_SECONDS)


def test_a_peer_that_is_forgotten_is_answered_at_once() -> None:
    limiter = ReplyLimiter()
    assert limiter.may_answer(b"a", 5.0)
    limiter.forget(b"a")
    limiter.forget(b"nobody")
    assert limiter.may_answer(b"a", 5.0)


def test_many_peers_take_bounded_memory() -> None:
    limiter = ReplyLimiter(3)
    for number in range(1000):
        assert limiter.may_answer(b"%d" % number, 5.0)
    assert repr(limiter) == "<ReplyLimiter: 3>"
    assert not limiter.may_answer(b"999", 5.0)
    assert limiter.may_answer(b"0", 5.0), "it is forgotten"


def test_a_reply_goes_to_a_peer_of_this_process_or_else_over_the_network() -> None:
    network, delivered = NotedNetwork(), list[WireMessage]()
    replies = Replies(network.send)
    replies.join(b"local", lambda message: delivered.append(message) is None)
    assert replies.send(b"local", Nak(1))
    assert replies.send(b"remote", Nak(2))
    assert (delivered, network.take(b"local"), network.take(b"remote")) == ([Nak(1)], [], [Nak(2)])
    replies.leave(b"local")
    replies.send(b"local", Bye())
    assert (delivered, network.take(b"local")) == ([Nak(1)], [Bye()])


def test_a_peer_that_is_gone_is_reported() -> None:
    network = NotedNetwork()
    network.gone.add(b"a")
    assert not Replies(network.send).send(b"a", Bye())


def test_limited_replies_are_one_a_second_and_not_limited_after_a_stream_was_opened() -> None:
    network = NotedNetwork()
    replies = Replies(network.send)
    for now_seconds in (5.0, 5.5, 6.0):
        replies.send_limited(b"a", Nak(0), now_seconds)
    assert network.take(b"a") == [Nak(0)] * 2
    replies.stream_opened(b"a")
    replies.send_limited(b"a", Nak(0), 6.1)
    assert network.take(b"a") == [Nak(0)]
