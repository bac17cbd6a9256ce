"""Connections below the messages: which is closed at the cap, why a handshake failed, how a connection is cut."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq
from support.logger.zmtp import ends, speak_zmtp

from tensorboard_sidecar.logger_service.access.connection_monitor import (
    ConnectionLru,
    connections_limit,
    cut,
    why_refused,
)
from tensorboard_sidecar.logger_service.limits import CONNECTIONS_MAX


@pytest.mark.parametrize(
    ("event", "value", "words"),
    [
        (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400, "not allowed"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH, "one side only"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, "another server's public key"),
        (zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.PROTOCOL_ERROR_ZMTP_UNSPECIFIED, "0x10000000"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EFAULT, "no authenticator"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EAGAIN, "in time"),
        (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.ECONNRESET, "hung up"),
    ],
)
def test_every_refusal_has_its_reason(event: int, value: int, words: str) -> None:
    assert words in why_refused(event, value, keys=True)


def test_a_peer_that_hangs_up_where_no_key_is_needed_was_not_refused() -> None:
    assert why_refused(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, errno.EPIPE, keys=False) == ""


def test_a_connection_is_cut_by_a_message_that_came_over_it() -> None:
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    server.bind("tcp://127.0.0.1:*")
    with speak_zmtp(server.getsockopt_string(zmq.LAST_ENDPOINT)) as connection:
        connection.sendall(b"\x00\x02hi")
        assert server.poll(20_000)
        cut(server.recv_multipart(copy=False)[-1])
        assert ends(connection)
    context.destroy(linger=0)


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 8, hard)
    )
    opened = []
    try:
        with suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_connection_is_cut_where_no_file_can_be_opened_any_more() -> None:
    context = zmq.Context()
    server = context.socket(zmq.ROUTER)
    server.bind("tcp://127.0.0.1:*")
    with speak_zmtp(server.getsockopt_string(zmq.LAST_ENDPOINT)) as connection:
        connection.sendall(b"\x00\x02hi")
        assert server.poll(20_000)
        message = server.recv_multipart(copy=False)
        with no_descriptors_left():
            cut(message[-1])
        assert ends(connection)
    context.destroy(linger=0)


def test_a_connection_that_is_gone_is_left_alone() -> None:
    cut(zmq.Frame(b"of no connection"))


def lru_of(*descriptors: int, connections_max: int = 3) -> ConnectionLru:
    lru = ConnectionLru(connections_max)
    for descriptor in descriptors:
        assert lru.come(descriptor) is None
    return lru


def test_at_the_cap_the_longest_idle_connection_is_closed() -> None:
    lru = lru_of(1, 2, 3)
    lru.heard(1)
    assert [lru.come(4), lru.come(5), lru.come(6)] == [2, 3, 1]
    assert len(lru) == 3


def test_a_connection_that_is_gone_makes_room() -> None:
    lru = lru_of(1, 2, 3)
    lru.gone(2)
    assert lru.come(4) is None
    assert lru.come(5) == 1


def test_a_descriptor_that_comes_again_is_a_new_connection() -> None:
    lru = lru_of(1, 2, 3)
    assert lru.come(1) is None
    assert lru.come(4) == 2


def test_a_connection_that_was_cut_may_still_send_and_end() -> None:
    lru = lru_of(1, 2, 3)
    lru.come(4)
    lru.heard(1)
    lru.gone(1)
    assert len(lru) == 3


def test_connections_take_half_of_the_open_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert connections_limit() >= 1
    assert connections_limit() <= CONNECTIONS_MAX
    assert soft == resource.RLIM_INFINITY or connections_limit() == min(soft // 2, CONNECTIONS_MAX)
