"""Findings over HTTP, to real servers: good ones, and those that fail, hang, redirect, drip and flood."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from support.machine.waiting import wait_until
from support.running.programs import free_port

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.hooks.hook import HookError
from tensorboard_sidecar.logger_service.hooks.webhook import WebAddress, WebHook

BODY = b'{"rule": "loss-spike"}\n'
LIMIT_SECONDS = 1.0


class Server(ThreadingHTTPServer):
    """Keeps what it is sent, and answers with ``status`` and ``headers``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 204
        self.headers: dict[str, str] = {}
        self.heard: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hooks/1?key=secret"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version: ClassVar[str] = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.command, self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


Behave = Callable[[socket.socket], None]


@pytest.fixture
def peer() -> Iterator[Callable[[Behave], str]]:
    """Return a function that starts a server of one behaviour, and returns its URL."""
    ended, threads, listeners = threading.Event(), list[threading.Thread](), list[socket.socket]()

    def start(behave: Behave) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.05)
        listeners.append(listener)

        def serve() -> None:
            while not ended.is_set():
                with suppress(OSError), listener.accept()[0] as connection:
                    connection.settimeout(5)
                    while not ended.is_set():
                        behave(connection)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    ended.set()
    for thread in threads:
        thread.join()
    for listener in listeners:
        listener.close()


def post(url: str, stopped: threading.Event | None = None, limit_seconds: float = LIMIT_SECONDS) -> None:
    WebHook(WebAddress.parse(url), limit_seconds)(BODY, stopped or threading.Event())


def failure(url: str, limit_seconds: float = LIMIT_SECONDS) -> HookError:
    with pytest.raises(HookError) as caught:
        post(url, limit_seconds=limit_seconds)
    assert "secret" not in str(caught.value)
    return caught.value


def test_a_finding_is_posted_as_json(server: Server) -> None:
    post(server.url, limit_seconds=30.0)
    [(method, path, headers, body)] = server.heard
    assert (method, path, body) == ("POST", "/hooks/1?key=secret", BODY)
    assert (headers["Content-Type"], headers["User-Agent"]) == ("application/json", "tensorboard-sidecar")


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_server_in_trouble_is_asked_again_later(server: Server, status: int) -> None:
    server.status = status
    error = failure(server.url, 30.0)
    assert error.retry
    assert str(error).endswith(f"answer {status}")


@pytest.mark.parametrize("status", [400, 401, 404, 410])
def test_a_server_that_refuses_is_not_asked_again(server: Server, status: int) -> None:
    server.status = status
    assert not failure(server.url, 30.0).retry


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://169.254.169.254/latest", "/elsewhere", ""])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: Server, status: int, location: str) -> None:
    server.status, server.headers = status, {"Location": location}
    error = failure(server.url, 30.0)
    assert not error.retry
    assert "elsewhere, which is not followed" in str(error)
    assert len(server.heard) == 1


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"])
def test_no_proxy_is_used(server: Server, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, f"http://127.0.0.1:{free_port()}")
    post(server.url, limit_seconds=30.0)
    assert len(server.heard) == 1


def test_nobody_there_is_tried_again() -> None:
    error = failure(f"http://127.0.0.1:{free_port()}/secret", 30.0)
    assert error.retry
    assert "refused" in str(error)


def hang(connection: socket.socket) -> None:
    connection.recv(1)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"H")
    threading.Event().wait(0.02)


def continue_for_ever(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    threading.Event().wait(0.01)


@pytest.mark.parametrize("behave", [hang, drip, continue_for_ever], ids=lambda behave: behave.__name__)
def test_a_server_without_an_end_is_cut_off(peer: Callable[[Behave], str], behave: Behave) -> None:
    error = failure(peer(behave))
    assert error.retry
    assert "no answer in time" in str(error)


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)
    raise OSError


def flood(connection: socket.socket) -> None:
    connection.sendall(b"\xff" * 2**20)


def headers_without_end(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000)


@pytest.mark.parametrize("behave", [hang_up, flood, headers_without_end], ids=lambda behave: behave.__name__)
def test_what_is_no_answer_is_an_error(peer: Callable[[Behave], str], behave: Behave) -> None:
    assert failure(peer(behave), 30.0).retry


def test_a_body_without_end_is_not_read(peer: Callable[[Behave], str]) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 2**16)

    post(peer(answer), limit_seconds=30.0)


def test_a_stop_cuts_a_call_off(peer: Callable[[Behave], str]) -> None:
    url, stopped, errors = peer(hang), threading.Event(), list[HookError]()

    def deliver() -> None:
        with pytest.raises(HookError) as caught:
            post(url, stopped, 300.0)
        errors.append(caught.value)

    thread = threading.Thread(target=deliver)
    thread.start()
    stopped.set()
    thread.join(30)
    assert errors
    wait_until(lambda: not any(thread.name == "hook-cut-off" for thread in threading.enumerate()))


def test_a_server_without_encryption_is_no_https_server(server: Server) -> None:
    assert failure(server.url.replace("http:", "https:"), 30.0).retry
    assert server.heard == []


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://localhost", WebAddress(False, "localhost", 80, "/")),
        ("https://example.org/a/b?c=d", WebAddress(True, "example.org", 443, "/a/b?c=d")),
        ("HTTPS://Example.org:8443/", WebAddress(True, "example.org", 8443, "/")),
        ("http://[::1]:8080/x#part", WebAddress(False, "::1", 8080, "/x")),
    ],
)
def test_an_address_is_read(url: str, address: WebAddress) -> None:
    assert WebAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org/hook",
        "file:///etc/passwd",
        "ftp://example.org/a",
        "unix:///run/socket",
        "http:///path",
        "http://host:99999/",
        "http://host:port/",
        "http://host/a b",
        "http://host/\r\nX: y",
        "http://[::1",
        "http://höst/",
    ],
)
def test_what_is_no_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(StartupError, match="--on_finding_url: expected an address like https://"):
        WebAddress.parse(url)


def test_a_password_in_an_address_is_refused_and_not_said() -> None:
    with pytest.raises(StartupError, match="without a user and a password") as caught:
        WebAddress.parse("https://me:secret@example.org/")
    assert "secret" not in str(caught.value)
