"""The line that tells how far a replay has come."""

import io

import pytest

from tensorboard_sidecar.logger_service.offline.progress_line import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_latest_four_times_a_second_and_nothing_in_the_end() -> None:
    terminal, now = Terminal(), 0.0
    with ProgressLine(terminal, lambda: now) as line:
        for number in range(100):
            line.show(f"{number} records")
            now += 0.01
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown == ["", "0 records", "25 records", "50 records", "75 records", ""]


def test_a_long_text_stays_on_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    with ProgressLine(terminal) as line:
        line.show("x" * 100)
    assert max(map(len, terminal.getvalue().split("\r\x1b[K"))) == 19


def test_where_there_is_no_terminal_nothing_is_written() -> None:
    pipe = io.StringIO()
    with ProgressLine(pipe) as line:
        line.show("half of it")
    assert pipe.getvalue() == ""
