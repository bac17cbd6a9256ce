"""The health page over real sockets: its answers, and clients that must not hang the page."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPResponse
from time import monotonic

import pytest

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.limits import (
    HEALTH_CONNECTIONS_MAX,
    HEALTH_REQUEST_MAX_BYTES,
    HEALTH_REQUEST_MAX_SECONDS,
)
from tensorboard_sidecar.logger_service.monitoring.health import HealthPage
from tensorboard_sidecar.logger_service.monitoring.status import STALE_SECONDS, Status

NOW = 1000.0


@pytest.fixture
def page() -> Iterator[HealthPage]:
    page = HealthPage("127.0.0.1", 0, Status(at_seconds=NOW), clock=lambda: NOW)
    yield page
    page.close()


def port_of(page: HealthPage) -> int:
    return int(page.address.rpartition(":")[2])


def connect(page: HealthPage) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(page)), timeout=30)


def ask(page: HealthPage, path: str, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port_of(page), timeout=30)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_a_logger_that_is_well_is_200_and_one_that_is_not_is_503_with_the_reasons(page: HealthPage) -> None:
    response, body = ask(page, "/healthz")
    assert (response.status, json.loads(body)) == (200, {"healthy": True, "reasons": []})
    page.status = Status(at_seconds=NOW, troubles=("the disk is full", "nothing is drawn"))
    response, body = ask(page, "/healthz?probe=1")
    assert response.status == 503
    assert json.loads(body) == {"healthy": False, "reasons": ["the disk is full", "nothing is drawn"]}


def test_a_logger_that_hangs_is_503(page: HealthPage) -> None:
    page.status = Status(at_seconds=NOW - STALE_SECONDS)
    assert ask(page, "/healthz")[0].status == 503


def test_metrics_are_text_that_prometheus_reads(page: HealthPage) -> None:
    page.status = Status(at_seconds=NOW, streams=3)
    response, body = ask(page, "/metrics")
    assert response.status == 200
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\ntensorboard_sidecar_streams 3.0\n" in body
    page.status = Status(at_seconds=NOW, streams=4)
    assert b"\ntensorboard_sidecar_streams 4.0\n" in ask(page, "/metrics")[1]


def test_a_status_is_rendered_once_however_many_ask(page: HealthPage) -> None:
    assert page.answer("/metrics")[2] is page.answer("/metrics")[2]


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/nowhere"])
def test_head_is_the_same_without_the_body(page: HealthPage, path: str) -> None:
    (got, body), (head, nothing) = ask(page, path), ask(page, path, "HEAD")
    assert (head.status, head.getheader("Content-Length")) == (got.status, str(len(body)))
    assert nothing == b""


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/healthz/", "/../etc/passwd", "/%2e%2e/"])
def test_there_is_no_other_page(page: HealthPage, path: str) -> None:
    assert ask(page, path)[0].status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "DANCE"])
def test_there_is_no_other_method(page: HealthPage, method: str) -> None:
    assert ask(page, "/healthz", method)[0].status == 501


@pytest.mark.parametrize(
    "rubbish",
    [
        b"\r\n\r\n",
        b"\0" * 1000 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"GET /" + b"a" * HEALTH_REQUEST_MAX_BYTES + b" HTTP/1.0\r\n\r\n",
        bytes(range(256)) + b"\r\n\r\n",
    ],
    ids=["empty", "zeros", "cut", "version", "headers", "long", "binary"],
)
def test_rubbish_is_answered_or_cut_and_the_next_is_served(page: HealthPage, rubbish: bytes) -> None:
    with connect(page) as connection:
        connection.sendall(rubbish)
        with suppress(ConnectionResetError):
            assert b"200 OK" not in connection.recv(65_536)
    assert ask(page, "/healthz")[0].status == 200


def test_a_request_that_drips_is_cut_in_time(page: HealthPage) -> None:
    """Each byte comes soon after the last; the request as a whole never ends."""
    began_at = monotonic()
    with connect(page) as connection:
        connection.settimeout(0.2)
        connection.sendall(b"GET /healthz HTTP/1.0\r\n")
        while True:
            try:
                connection.sendall(b"a")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                assert monotonic() - began_at < 10 * HEALTH_REQUEST_MAX_SECONDS
            except OSError:
                break
    assert monotonic() - began_at > HEALTH_REQUEST_MAX_SECONDS / 2


def test_silent_connections_do_not_block_the_page(page: HealthPage) -> None:
    with ExitStack() as silent:
        first, *others = [silent.enter_context(connect(page)) for _ in range(HEALTH_CONNECTIONS_MAX)]
        assert ask(page, "/healthz")[0].status == 200
        assert first.recv(1) == b"", "the oldest is cut for the newest"
        for _ in range(2 * HEALTH_CONNECTIONS_MAX):
            silent.enter_context(connect(page))
            assert ask(page, "/healthz")[0].status == 200
        assert others[0].recv(1) == b""


def test_a_client_that_reads_nothing_does_not_block_the_page(page: HealthPage) -> None:
    with ExitStack() as deaf:
        for _ in range(HEALTH_CONNECTIONS_MAX):
            connection = deaf.enter_context(connect(page))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert ask(page, "/healthz")[0].status == 200


def test_a_page_that_is_closed_leaves_its_port_to_others() -> None:
    page = HealthPage("127.0.0.1", 0, Status(at_seconds=NOW))
    assert repr(page) == f"<HealthPage at {page.address}>"
    page.close()
    HealthPage("127.0.0.1", port_of(page), Status(at_seconds=NOW)).close()


def test_the_error_for_an_address_in_use_names_the_remedy(page: HealthPage) -> None:
    with pytest.raises(StartupError, match=rf"--health {page.address}: the address is in use.*another port"):
        HealthPage("127.0.0.1", port_of(page), Status(at_seconds=NOW))
