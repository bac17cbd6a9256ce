"""What ``status`` says of helpers: those that answer, those that do not, and folders that wait for one."""

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.helper.server import Server
from tensorboard_sidecar.protocol.helper.messages import FolderReport, Report, StatusRequest, Trouble
from tensorboard_sidecar.protocol.helper.place import LOCK_NAME, SOCKET_NAME, helper_folder, write_note
from tensorboard_sidecar.protocol.storage.durable import hold_folder
from tensorboard_sidecar.telemetry.recovery import helpers
from tensorboard_sidecar.telemetry.recovery.helpers import ask_helper, describe_helpers


@pytest.fixture
def place() -> Iterator[Path]:
    """Return the place of a helper that runs: its lock is held."""
    place = helper_folder()
    with hold_folder(place, LOCK_NAME):
        yield place


def answer(place: Path, report: Report) -> threading.Thread:
    """Answer one request for a report; another message goes before the report."""
    server = Server(place / SOCKET_NAME)

    def serve() -> None:
        while True:
            for client, message in server.receive(0.1):
                if message == StatusRequest():
                    server.send(client, Trouble("not asked for"))
                    server.send(client, report)
                if message is None:
                    server.close()
                    return

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_a_running_helper_and_its_folders_are_listed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(
        12,
        60 * 2**20,
        [FolderReport(b"/runs/a\x1b[2J\xff", 2, 0.0), FolderReport(b"/runs/b", 0, 3.4, "the disk is full")],
    )
    thread = answer(place, report)
    assert main(["status"]) == 0
    thread.join()
    assert capsys.readouterr().out.splitlines() == [
        "helper: pid 12, 60 MiB, 2 folders",
        "  /runs/a\\x1b[2J\\udcff: 2 writers, event files are complete",
        "  /runs/b: 0 writers, event files are 3 s behind; the disk is full",
    ]


def test_folders_without_a_helper_are_listed_with_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_note(helper_folder(), tmp_path)
    (helper_folder() / "folders" / "rubbish").write_bytes(b"rubbish")
    assert main(["status"]) == 0
    said = f"{tmp_path}: event files may lack records; tensorboard-sidecar replay {tmp_path}\n"
    assert capsys.readouterr().out == said


def test_a_helper_that_does_not_answer_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers.ask_helper, "__defaults__", (0.2,))
    assert "no answer" in next(describe_helpers())
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / SOCKET_NAME))
        silent.listen()
        [line] = describe_helpers()
        assert f"helper in {place}: no answer: timed out" in line
        with pytest.raises(TimeoutError):
            ask_helper(place, 0.1)


def test_a_helper_that_ends_meanwhile_is_said(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / SOCKET_NAME))
        silent.listen()

        def close() -> None:
            silent.accept()[0].close()

        closes = threading.Thread(target=close)
        closes.start()
        with pytest.raises(ConnectionError):  # before the request, or before the answer
            ask_helper(place)
        closes.join()


def test_an_outbox_folder_that_is_given_has_no_helpers(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place
    assert main(["status", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing is left behind\n"
    assert os.path.exists(place)  # noqa: PTH110 - it is left alone
