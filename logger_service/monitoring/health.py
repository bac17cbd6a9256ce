"""The health page: ``/healthz`` for a supervisor that restarts the logger, ``/metrics`` for Prometheus.

The metrics are a status in Prometheus's text format (prometheus.io/docs/instrumenting/exposition_formats).
The page reads the last status and nothing else, so no request can hold up the logger. The time and the size of a
request are bounded (``limits``). At ``HEALTH_CONNECTIONS_MAX`` open connections, a new connection cuts the oldest, so
silent connections cannot block the page.
"""

import errno
import json
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from itertools import accumulate
from socketserver import ThreadingTCPServer
from time import monotonic, sleep
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tensorboard_sidecar.logger_service import limits
from tensorboard_sidecar.logger_service.config import HEALTH_ADDRESS, OFF
from tensorboard_sidecar.logger_service.counters import BOUNDS_SECONDS, DurationCounts, declared
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.hooks.queue import HookCounts
from tensorboard_sidecar.logger_service.monitoring.status import Status

_POLL_SECONDS: Final = 0.1
_PREFIX: Final = "tensorboard_sidecar_"

_log = logging.getLogger(__name__)


class HealthPage:
    """Serves ``status`` at ``host`` and ``port`` (0: any free port) from a thread of its own, until :meth:`close`.

    The owner replaces ``status`` at any time. ``clock`` is the clock of ``Status.at_seconds``. Raises StartupError when
    the address cannot be used.
    """

    def __init__(self, host: str, port: int, status: Status, clock: Callable[[], float] = monotonic) -> None:
        self.status = status
        self._clock = clock
        self._rendered: tuple[Status, bytes] | None = None
        self._rendering = threading.Lock()
        try:
            self._server = _Server((host, port), self)
        except OSError as error:
            raise StartupError(_why_not(f"{host}:{port}", error)) from None
        bound_host, bound_port = self._server.server_address[:2]
        self.address = f"{bound_host!s}:{bound_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="health-page", daemon=True
        )
        self._thread.start()

    def __repr__(self) -> str:
        return f"<HealthPage at {self.address}>"

    def close(self) -> None:
        """Stop listening, and end the thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        """Return the status, the content type and the body for a request. Any thread may call this."""
        match path.partition("?")[0]:
            case "/healthz":
                reasons = self.status.reasons(self._clock())
                body = json.dumps({"healthy": not reasons, "reasons": reasons}).encode() + b"\n"
                return HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK, "application/json", body
            case "/metrics":
                return HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self._metrics()
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"expected /healthz or /metrics\n"

    def _metrics(self) -> bytes:
        """Return the metrics; render each status once."""
        with self._rendering:
            status = self.status
            if self._rendered is None or self._rendered[0] is not status:
                self._rendered = (status, render_metrics(status, self._clock()))
            return self._rendered[1]


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = limits.HEALTH_CONNECTIONS_MAX

    def __init__(self, address: tuple[str, int], page: HealthPage) -> None:
        self.page = page
        self._open: dict[socket.socket, None] = {}
        self._opening = threading.Lock()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            sleep(_POLL_SECONDS)  # no free file descriptor: the connection stays pending, and select reports it again
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._opening:
            if len(self._open) >= limits.HEALTH_CONNECTIONS_MAX:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        with self._opening:
            self._open.pop(request, None)
            super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - as the library calls it
        if not isinstance(sys.exception(), OSError):  # an OSError is a client that hung up
            _log.exception("a request for the health page failed")


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = BytesIO(_read_head(self.connection))

    def do_GET(self) -> None:
        status, content_type, body = self.server.page.answer(self.path)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - as the library calls it

    def version_string(self) -> str:
        return "tensorboard-sidecar"

    def log_message(self, *_: object) -> None:
        """Log nothing: requests arrive every few seconds."""


def _read_head(connection: socket.socket) -> bytes:
    """Return a request up to its empty line; return nothing if the request is late or too long."""
    deadline, head = monotonic() + limits.HEALTH_REQUEST_MAX_SECONDS, b""
    with suppress(OSError):
        while (left_seconds := deadline - monotonic()) > 0 and len(head) < limits.HEALTH_REQUEST_MAX_BYTES:
            connection.settimeout(left_seconds)
            data = connection.recv(limits.HEALTH_REQUEST_MAX_BYTES - len(head))
            head += data
            if b"\r\n\r\n" in head or b"\n\n" in head:
                connection.settimeout(limits.HEALTH_REQUEST_MAX_SECONDS)
                return head
            if not data:
                break
    return b""


def _why_not(address: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"--health {address}: the address is in use, by another logger perhaps; choose another port"
            f" (127.0.0.1:* takes a free one), or {OFF}"
        )
    return f"--health {address}: {error.strerror or error}; expected something like {HEALTH_ADDRESS}, or {OFF}"


def render_metrics(status: Status, now_seconds: float) -> bytes:
    """Return the page. ``now_seconds`` is a time of the same clock as the status."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(status, now_seconds))
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, status: Status, now_seconds: float) -> None:
        self._status, self._now_seconds = status, now_seconds

    def collect(self) -> Iterable[Metric]:
        status = self._status
        healthy = float(not status.reasons(self._now_seconds))
        yield GaugeMetricFamily(f"{_PREFIX}healthy", "1 when /healthz answers 200", value=healthy)
        yield from _declared("", status.received)
        yield from _declared("connections_", status.connections)
        yield _histogram("ack_seconds", "time from a batch's arrival to its acknowledgement", status.ack_durations)
        yield _histogram("fsync_seconds", "time of an fdatasync of the journal", status.sync_durations)
        yield from _declared("", status)
        yield from _declared("projection_", status.projection)
        yield from _hooks(status.hooks)
        disks, lags = status.disks, status.lags
        free_bytes = [((folder,), space.free_bytes) for folder, space in disks.items()]
        help_text = "open findings of the runs that go on, by rule; docs/FINDINGS.md describes the rules"
        yield _by("findings_open", help_text, ("rule", "severity"), status.findings.items())
        yield _by("disk_free_bytes", "free space on the disk of a folder", ("folder",), free_bytes)
        size_bytes = [((folder,), space.total_bytes) for folder, space in disks.items()]
        yield _by("disk_size_bytes", "size of the disk of a folder", ("folder",), size_bytes)
        records = [((run,), lag.records) for run, lag in lags.items()]
        yield _by("run_lag_records", "records of a run that are not in its event files yet", ("run",), records)
        seconds = [((run,), lag.seconds) for run, lag in lags.items()]
        yield _by("run_lag_seconds", "age of the oldest of these records", ("run",), seconds)


def _declared(prefix: str, numbers: Any) -> Iterator[Metric]:
    for name, kind, help_text, value in declared(numbers):
        family = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
        yield family(f"{_PREFIX}{prefix}{name}", help_text, value=value)


def _hooks(hooks: Mapping[str, HookCounts]) -> Iterator[Metric]:
    """Yield a counter with one value for each hook, also without a hook."""
    for name, _, help_text, _ in declared(HookCounts()):
        family = CounterMetricFamily(f"{_PREFIX}hook_{name}", help_text, labels=["hook"])
        for hook, counts in hooks.items():
            family.add_metric([hook], getattr(counts, name))
        yield family


def _by(name: str, help_text: str, labels: Sequence[str], values: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """Return a gauge with one value for each set of values of the labels."""
    family = GaugeMetricFamily(_PREFIX + name, help_text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _histogram(name: str, help_text: str, counts: DurationCounts) -> Metric:
    bounds = [*(str(bound) for bound in BOUNDS_SECONDS), "+Inf"]
    buckets = list(zip(bounds, accumulate(counts.buckets), strict=True))
    return HistogramMetricFamily(_PREFIX + name, help_text, buckets=buckets, sum_value=counts.sum_seconds)
