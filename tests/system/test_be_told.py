"""A real logger tells a real trainer, a real command and a real web server what is wrong with a run that trains."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.machine import waiting
from support.running.embedded import workplace
from support.running.programs import LoggerProcess, free_port, run_command

from tensorboard_sidecar import Finding, Telemetry

pytestmark = pytest.mark.system

SECONDS = 120.0
NAN = float("nan")
RULE = "non-finite-scalar"


def wait_until(condition: Callable[[], object]) -> None:
    waiting.wait_until(condition, seconds=SECONDS)


class Loop:
    """A training loop in this process, with losses of ``loss``; ``heard`` is what its callback was called with."""

    def __init__(self, logger: LoggerProcess, run: str = "team/run", **settings: Any) -> None:
        self.loss = 1.0
        self.heard: list[Finding] = []
        self.telemetry = Telemetry(
            run, endpoint=logger.endpoint, strict=True, drain_seconds=20.0, on_finding=self.heard.append, **settings
        )
        self._steps = count(1)

    def train_until(self, condition: Callable[[], object]) -> None:
        """Train until the condition holds."""

        def step() -> object:
            self.telemetry.scalars(next(self._steps), {"loss/train": self.loss})
            return condition()

        wait_until(step)

    def states(self, rule: str = RULE) -> list[str]:
        return [finding.state for finding in self.heard if finding.rule == rule]


@pytest.fixture(autouse=True)
def _own_outboxes(outboxes: Path) -> None:
    """Make outboxes in a separate folder for the test."""


def test_a_loss_that_is_not_finite_is_told_while_the_run_trains_and_so_is_its_end(logger: LoggerProcess) -> None:
    logger.start()
    loop = Loop(logger)
    with loop.telemetry:
        loop.train_until(lambda: loop.telemetry.lag_seconds == 0.0)
        assert loop.states() == []
        loop.loss = NAN
        loop.train_until(loop.states)
        [known] = [finding for finding in loop.telemetry.findings() if finding.rule == RULE]
        assert (known.severity, known.state) == ("error", "open")
        assert known.advice
        loop.loss = 1.0
        loop.train_until(lambda: loop.states() == ["open", "cleared"])
    assert [finding.state for finding in loop.telemetry.findings() if finding.rule == RULE] == ["cleared"]


def test_a_killed_logger_tells_after_its_restart_and_nothing_opens_twice(logger: LoggerProcess) -> None:
    logger.start()
    loop = Loop(logger)
    with loop.telemetry:
        loop.loss = NAN
        loop.train_until(loop.states)
        logger.kill()
        loop.train_until(lambda: loop.telemetry.lag_seconds > 0.5)
        logger.start()
        loop.loss = 1.0
        loop.train_until(lambda: loop.states() == ["open", "cleared"])
        assert loop.telemetry.faults.total == 0


def test_findings_of_the_time_of_a_dead_logger_are_told_by_the_next(logger: LoggerProcess) -> None:
    logger.start()
    loop = Loop(logger)
    with loop.telemetry:
        loop.train_until(lambda: loop.telemetry.lag_seconds == 0.0)
        logger.kill()
        loop.loss = NAN
        loop.train_until(lambda: loop.telemetry.lag_seconds > 0.5)
        assert loop.states() == []
        logger.start()
        loop.train_until(loop.states)
    assert loop.states() == ["open"]


def test_a_killed_projection_tells_nothing_twice_and_misses_nothing(logger: LoggerProcess) -> None:
    logger.start()
    loop = Loop(logger)
    with loop.telemetry:
        loop.loss = NAN
        loop.train_until(loop.states)
        os.kill(logger.projection, signal.SIGKILL)
        loop.loss = 1.0
        loop.train_until(lambda: loop.states() == ["open", "cleared"])


class Web(ThreadingHTTPServer):
    """A web server that keeps what it is sent; the first requests fail."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _WebHandler)
        self.failures_left = 1
        self.told: list[dict[str, Any]] = []


class _WebHandler(BaseHTTPRequestHandler):
    server: Web

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fails = self.server.failures_left > 0
        self.server.failures_left -= 1
        if not fails:
            self.server.told.append(body)
        self.send_response(503 if fails else 200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def script(folder: Path, program: str) -> str:
    """Make a program that knows ``sys`` and ``told``, a file; return the command that runs it."""
    path = folder / "a hook.py"
    path.write_text(f"import json, os, sys, time\ntold = {str(folder / 'told')!r}\n{program}\n")
    return f"'{sys.executable}' -I -S '{path}'"


def told_by(folder: Path) -> list[dict[str, Any]]:
    with suppress(FileNotFoundError):
        return [json.loads(line) for line in (folder / "told").read_text().splitlines()]
    return []


def hook_counts(logger: LoggerProcess) -> dict[tuple[str, str], float]:
    with urlopen(f"http://{logger.health}/metrics", timeout=30) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    return {
        (
            sample.name.removeprefix("tensorboard_sidecar_hook_").removesuffix("_total"),
            sample.labels["hook"],
        ): sample.value
        for family in families
        for sample in family.samples
        if "hook" in sample.labels
    }


def test_a_command_and_a_web_server_are_told_and_counted(logger: LoggerProcess, web: Web, tmp_path: Path) -> None:
    command = script(tmp_path, "open(told, 'a').write(sys.stdin.read())")
    logger.flags = ("--on_finding", command, "--on_finding_url", f"http://127.0.0.1:{web.server_port}/hook")
    logger.health = f"127.0.0.1:{free_port()}"
    logger.start()
    loop = Loop(logger, rank=3, attempt=2)
    with loop.telemetry:
        loop.loss = NAN
        loop.train_until(lambda: told_by(tmp_path) and web.told)
    for told in (told_by(tmp_path)[0], web.told[0]):
        assert (told["run"], told["rank"], told["attempt"]) == ("team/run", 3, 2)
        assert (told["rule"], told["state"], told["severity"], told["tag"]) == (RULE, "open", "error", "loss/train")
        assert told["text"].startswith(f"team/run: error: {RULE} of loss/train")
    wait_until(lambda: hook_counts(logger).get(("delivered", "url"), 0.0) >= 1.0)
    counts = hook_counts(logger)
    assert counts["delivered", "command"] >= 1.0
    assert (counts["failed", "command"], counts["failed", "url"]) == (0.0, 1.0)
    assert logger.stop() == 0


def test_a_command_that_hangs_holds_up_neither_trainers_nor_the_end(logger: LoggerProcess, tmp_path: Path) -> None:
    command = script(tmp_path, "open(told, 'a').write(str(os.getpid()) + '\\n'); time.sleep(600)")
    logger.flags = ("--on_finding", command)
    logger.start()
    loop = Loop(logger)
    with loop.telemetry:
        loop.loss = NAN
        loop.train_until((tmp_path / "told").exists)
        loop.loss = 1.0
        loop.train_until(lambda: loop.states() == ["open", "cleared"])
        loop.train_until(lambda: loop.telemetry.lag_seconds == 0.0)
    assert logger.stop() == 0
    for pid in map(int, (tmp_path / "told").read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert "--on_finding was not told" in logger.log.read_text()


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--on_finding", "no-such-program --x", "there is no program 'no-such-program'"),
        ("--on_finding", "'", "No closing quotation"),
        ("--on_finding_url", "file:///etc/passwd", "expected an address like https://"),
    ],
)
def test_a_hook_that_cannot_be_ends_the_start_with_a_reason(tmp_path: Path, flag: str, value: str, reason: str) -> None:
    folders = ("--recordings", tmp_path / "recordings", "--logdir", tmp_path / "runs", "--health", "none")
    done = run_command("serve", "--bind", f"tcp://127.0.0.1:{free_port()}", *folders, flag, value)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {flag}")
    assert reason in done.stderr
    assert not (tmp_path / "recordings").exists()


def test_a_summary_writer_is_told_by_its_helper(tmp_path: Path) -> None:
    program = """
import threading, time
told = threading.Event()
writer = SummaryWriter(sys.argv[1], on_finding=lambda finding: finding.rule == "non-finite-scalar" and told.set())
step = 0
while not told.wait(0.01):
    step += 1
    writer.add_scalar("loss/train", float("nan"), step)
print([finding.state for finding in writer.findings() if finding.rule == "non-finite-scalar"])
writer.close()
"""
    with workplace() as place:
        done = place.run(program, tmp_path / "first")
    assert (done.returncode, done.stdout) == (0, "['open']\n"), done.stderr
