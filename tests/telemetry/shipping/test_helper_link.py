"""The link to a helper: connects, asks, learns, starts a helper when there is none, and never raises or blocks."""

import logging
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine.children import fork
from support.machine.waiting import wait_until
from support.records.golden import FINDING
from support.records.recordings import make_stream

from tensorboard_sidecar.logger_service.helper.server import Server
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.helper.messages import (
    Findings,
    HelperMessage,
    Shown,
    StatusRequest,
    Sync,
    Trouble,
    Watch,
)
from tensorboard_sidecar.protocol.helper.place import LOG_NAME, SOCKET_NAME, helper_folder, note_path
from tensorboard_sidecar.telemetry.shipping import helper_link
from tensorboard_sidecar.telemetry.shipping.helper_link import HelperLink

STREAM = make_stream()


class Starts:
    """Takes the place of the start of a helper: counts, and runs ``program`` instead."""

    def __init__(self) -> None:
        self.count = 0
        self.program = "pass"
        self.error: Exception | None = None

    def __call__(self, _place: Path) -> "subprocess.Popen[bytes]":
        self.count += 1
        if self.error is not None:
            raise self.error
        return subprocess.Popen([sys.executable, "-I", "-S", "-c", self.program])


@pytest.fixture
def starts(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Starts:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(memory))
    starts = Starts()
    monkeypatch.setattr(helper_link, "_start", starts)
    return starts


@pytest.fixture
def link(starts: Starts, tmp_path: Path) -> Iterator[HelperLink]:
    del starts
    link = HelperLink(tmp_path, STREAM)
    yield link
    link.close()


@pytest.fixture
def server(starts: Starts) -> Iterator[Server]:
    del starts
    server = Server(helper_folder() / SOCKET_NAME)
    yield server
    server.close()  # a second close does nothing


def receive(server: Server, count: int) -> list[tuple[int, HelperMessage | None]]:
    found: list[tuple[int, HelperMessage | None]] = []
    wait_until(lambda: found.extend(server.receive(0.0)) or len(found) >= count, what=f"{count} messages")
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_helper_that_listens_is_told_the_folder_and_asked(
    link: HelperLink, server: Server, starts: Starts, tmp_path: Path
) -> None:
    link.ask(7)
    link.step(0.0)
    [(client, watch), (_, sync)] = receive(server, 2)
    assert (watch, sync) == (Watch(bytes(tmp_path), STREAM.id), Sync(STREAM.id, 7))
    assert starts.count == 0
    server.send(client, Shown(STREAM.id, 7))
    wait_until(lambda: link.step(1.0) or link.shown_sequence == 7)
    link.ask(7)
    link.ask(6)
    link.ask(9)
    assert receive(server, 1) == [(client, Sync(STREAM.id, 9))]
    assert not link.hopeless


def test_findings_are_taken(starts: Starts, server: Server, tmp_path: Path) -> None:
    del starts
    taken = list[Finding]()
    link = HelperLink(tmp_path, STREAM, taken.extend)
    link.step(0.0)
    [(client, _)] = receive(server, 1)
    server.send(client, Findings([FINDING]))
    wait_until(lambda: link.step(1.0) or taken)
    assert taken == [FINDING]
    assert link.shown_sequence == 0
    link.close()


def test_the_wait_ends_with_an_answer(link: HelperLink, server: Server) -> None:
    assert not link.wait(10.0)
    link.step(0.0)
    [(client, _)] = receive(server, 1)
    server.send(client, Shown(STREAM.id, 1))
    assert link.wait(10.0)
    link.step(0.1)
    assert link.shown_sequence == 1
    assert link.wait(0.0)


def test_a_socket_with_a_high_number_is_waited_for(link: HelperLink, server: Server, tmp_path: Path) -> None:
    """A program with many workers has more than 1,024 open files, which select() does not take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    files = []
    try:
        while not files or files[-1] < 1100:
            files.append(os.open(tmp_path, os.O_RDONLY))
        link.step(0.0)
        [(client, _)] = receive(server, 1)
        server.send(client, Shown(STREAM.id, 3))
        assert link.wait(10.0)
        link.step(0.1)
        assert link.shown_sequence == 3
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_after_the_end_of_a_helper_the_next_one_is_asked_again(
    link: HelperLink, server: Server, starts: Starts
) -> None:
    link.ask(5)
    link.step(0.0)
    receive(server, 2)
    server.close()
    link.step(1.0)
    assert starts.count == 1
    after = Server(helper_folder() / SOCKET_NAME)
    link.step(2.0)
    assert [message for _, message in receive(after, 2)][1] == Sync(STREAM.id, 5)
    after.close()


def test_without_a_helper_one_is_started_once_and_the_folder_is_noted(
    link: HelperLink, starts: Starts, tmp_path: Path
) -> None:
    """The note is for a helper that listens after the end of this process."""
    starts.program = "import time; time.sleep(600)"
    for turn in range(100):
        link.step(turn / 50)
    assert starts.count == 1
    assert not link.hopeless
    assert note_path(helper_folder(), tmp_path).read_bytes() == bytes(tmp_path)
    process = link._starter._process
    assert process is not None
    process.kill()
    process.wait()


def test_the_note_of_a_link_names_the_folder_it_leads_to(starts: Starts, tmp_path: Path) -> None:
    """A helper finds and deletes its notes by that name."""
    starts.error = OSError("no")
    (tmp_path / "link").symlink_to(tmp_path)
    link = HelperLink(tmp_path / "link", STREAM)
    link.step(0.0)
    assert note_path(helper_folder(), tmp_path).exists()
    link.close()


@pytest.mark.parametrize("error", [FileNotFoundError("no such program"), RuntimeError("interpreter ends")])
def test_a_helper_that_cannot_be_started_is_said_once_with_the_command(
    link: HelperLink, starts: Starts, tmp_path: Path, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    starts.error = error
    for turn in range(200):
        link.step(turn / 20)
    assert link.hopeless
    assert 2 <= starts.count <= 6
    [said] = warnings(caplog)
    assert f"a helper cannot be started: {error}" in said
    assert f"tensorboard-sidecar replay {tmp_path}" in said


def test_a_helper_that_fails_is_said_with_its_code_and_log(
    link: HelperLink, starts: Starts, caplog: pytest.LogCaptureFixture
) -> None:
    starts.program = "raise SystemExit(2)"
    now_seconds = 0.0

    def hopeless() -> bool:
        nonlocal now_seconds
        now_seconds += 0.1
        link.step(now_seconds)
        return link.hopeless

    wait_until(hopeless)
    [said] = warnings(caplog)
    assert f"the helper ended with code 2; see {helper_folder() / LOG_NAME}" in said


def test_a_helper_that_is_killed_while_it_starts_is_not_the_last(
    link: HelperLink, starts: Starts, caplog: pytest.LogCaptureFixture
) -> None:
    starts.program = "import os; os.kill(os.getpid(), 9)"
    now_seconds = 0.0

    def again() -> bool:
        nonlocal now_seconds
        now_seconds += 0.1
        link.step(now_seconds)
        return starts.count == 3

    wait_until(again)
    assert not link.hopeless
    assert warnings(caplog) == []


def test_a_helper_that_ends_after_each_start_is_started_less_and_less_often(
    link: HelperLink, starts: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that ends each helper must not cost the training a core."""

    def listen_and_end(_place: Path) -> "subprocess.Popen[bytes]":
        started = starts(_place)
        started.wait()
        served.append(Server(helper_folder() / SOCKET_NAME))
        return started

    served: list[Server] = []
    monkeypatch.setattr(helper_link, "_start", listen_and_end)
    for turn in range(1200):
        link.step(turn / 20)
        while served:
            served.pop().close()
    assert 5 <= starts.count <= 10


def test_a_helper_that_ran_for_a_while_is_replaced_at_once(link: HelperLink, starts: Starts) -> None:
    for start in range(3):
        server = Server(helper_folder() / SOCKET_NAME)
        link.step(100.0 * start + 10)
        link.step(100.0 * start + 16)
        server.close()
        link.step(100.0 * start + 16.1)
        assert starts.count == start + 1
        assert link._starter._process is not None
        link._starter._process.wait()


def test_a_trouble_is_said_once(link: HelperLink, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    link.step(0.0)
    [(client, _)] = receive(server, 1)
    for reason in ("the disk is full", "the disk is full", "another"):
        server.send(client, Trouble(reason))
    wait_until(lambda: link.step(1.0) or len(warnings(caplog)) == 2)
    assert "the disk is full. Nothing is lost" in warnings(caplog)[0]


@pytest.mark.parametrize("sent", [b"\xff" * 40, b"\x01\0\0\0\xc0"])
def test_a_helper_that_sends_rubbish_is_left(link: HelperLink, server: Server, sent: bytes) -> None:
    link.step(0.0)
    [(client, _)] = receive(server, 1)
    server._clients[client][0].sendall(sent)
    wait_until(lambda: link.step(0.01) or link._socket is None)
    link.step(1.0)
    assert [message for _, message in receive(server, 2)][1:] == [Watch(bytes(link._folder.path), STREAM.id)]


def test_a_message_that_only_writers_send_is_rubbish_too(link: HelperLink, server: Server) -> None:
    link.step(0.0)
    [(client, _)] = receive(server, 1)
    server.send(client, StatusRequest())
    wait_until(lambda: link.step(0.01) or link._socket is None)


def test_a_helper_that_does_not_read_is_left_and_never_waited_for(link: HelperLink, server: Server) -> None:
    link.step(0.0)
    receive(server, 1)
    for sequence in range(1, 100_000):
        link.ask(sequence)
        if link._socket is None:
            break
    assert link._socket is None


def test_without_a_place_for_a_helper_there_is_no_hope(
    link: HelperLink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_place() -> Path:
        calls.append(1)
        raise PermissionError("not private")

    calls: list[int] = []
    monkeypatch.setattr(helper_link, "helper_folder", no_place)
    for turn in range(200):
        link.step(turn / 20)
    assert link.hopeless
    assert len(calls) <= 11
    [said] = warnings(caplog)
    assert "not private" in said


def test_a_forked_child_closes_its_copy_of_the_connection(link: HelperLink, server: Server) -> None:
    link.step(0.0)
    [(client, _)] = receive(server, 1)

    def child() -> None:
        assert link._socket is None
        link.close()

    assert fork(child) == 0
    server.send(client, Shown(STREAM.id, 1))
    wait_until(lambda: link.step(1.0) or link.shown_sequence == 1)


def test_the_close_tells_the_helper_also_where_a_copy_of_the_socket_is_open(link: HelperLink, server: Server) -> None:
    link.step(0.0)
    [(client, _)] = receive(server, 1)
    assert link._socket is not None
    copy = link._socket.dup()
    link.close()
    assert receive(server, 1) == [(client, None)]
    copy.close()


def make_package(parent: Path, text: str) -> Path:
    """Make a package with the name of this one, whose command prints a text and where it finds another module."""
    (parent / "tensorboard_sidecar").mkdir(parents=True)
    (parent / "tensorboard_sidecar" / "__init__.py").touch()
    command = f"""
def main(arguments):
    import other
    print({text!r}, other.__file__, arguments)
    return 3
"""
    (parent / "tensorboard_sidecar" / "command_line.py").write_text(command)
    return parent


def test_a_helper_is_of_the_version_that_its_client_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where another one is installed; all other modules are found as a new Python finds them, then as here."""
    mine, installed = make_package(tmp_path / "mine", "mine"), make_package(tmp_path / "installed", "installed")
    (installed / "other.py").touch()
    for folder in (mine, tmp_path):
        (folder / "other.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(installed))
    program = helper_link._PROGRAM.format(parent=str(mine), paths=[str(mine)])
    command = [sys.executable, "-P", "-c", program, "helper", "--place", "x"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == f"mine {installed / 'other.py'} ['helper', '--place', 'x']\n", done.stderr
    assert done.returncode == 3
    (installed / "other.py").unlink()
    (mine / "other.py").write_text("")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"mine {mine / 'other.py'} "), done.stderr
