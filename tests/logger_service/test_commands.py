"""The commands, in this process; ``serve`` is in tests/system/test_serve.py."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.records.events import event_files
from support.records.recordings import Said, append_records, make_records, make_stream, write_recording

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.commands import ProgressLine
from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.names import RECORDING_NAME

SAID = [Said(step, Scalars({"a": float(step)})) for step in range(10)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "recordings", SAID)


def test_a_recording_is_replayed_inspected_and_verified(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logdir = tmp_path / "runs"
    assert main(["replay", str(recording), "--logdir", str(logdir)]) == 0
    assert "10 records" in capsys.readouterr().out
    assert list((logdir / "demo").glob("events.out.tfevents.*"))
    assert main(["inspect", str(tmp_path / "recordings")]) == 0
    assert "sequence   1 to 10" in capsys.readouterr().out
    assert main(["verify", str(recording), str(logdir)]) == 0
    assert capsys.readouterr().out.count(": complete") == 2


def test_a_lossy_recording_is_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "lossy"
    append_records(folder, make_stream(), [make_records(SAID)[0], make_records(SAID)[5]])
    assert main(["verify", str(folder)]) == 3
    assert "lossy" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["inspect"], ["verify"], ["replay", "--logdir", "unused"]])
def test_a_path_without_recordings_is_one_line_and_exit_code_2(
    tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*command, str(tmp_path / "nothing")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert "nothing" in said


def test_a_recording_that_is_none_is_named_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / f"{1:020d}.segment").write_bytes(b"no head")
    assert main(["replay", str(folder), "--logdir", str(tmp_path / "runs")]) == 2
    assert "segment head" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--bind", "tcp://0.0.0.0:5555"], "trainers need keys there"),
        (["--recordings", "runs/a", "--logdir", "runs"], "side by side"),
        (["--recordings", "/proc/nowhere"], "cannot be written"),
        (
            ["--bind", "ipc://no/such/folder/socket", "--recordings", "a", "--logdir", "b"],
            "ipc://no/such/folder/socket",
        ),
    ],
)
def test_serve_with_a_setting_that_cannot_be_is_one_line_and_exit_code_2(
    flags: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve", "--health", "none", "--adopt", "none", *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert reason in said


def test_folders_that_are_links_in_a_circle_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    flags = ["--recordings", str(tmp_path / "circle"), "--logdir", str(tmp_path / "runs")]
    assert main(["serve", "--health", "none", "--adopt", "none", *flags]) == 2
    assert re.fullmatch(r"error: --recordings .* cannot be written: .*\n", capsys.readouterr().err)


def test_a_reader_that_has_seen_enough_is_no_error(recording: Path) -> None:
    command = f"{sys.executable} -m tensorboard_sidecar verify {'. ' * 800} | head -1"
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, cwd=recording
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_what_was_lost_is_the_exit_code_also_when_nobody_reads_it(recording: Path, reader: str) -> None:
    """A check in a script must not pass since its output was cut."""
    append_records(recording.parent / "lossy", make_stream(), [make_records(SAID)[0], make_records(SAID)[5]])
    command = f"{sys.executable} -m tensorboard_sidecar verify {'. ' * 800} .. | {reader}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False, cwd=recording)
    assert (done.returncode, done.stderr) == (3, "")


def test_serve_imports_nothing_that_draws() -> None:
    """The parent process must be up at once, and no fault of matplotlib may reach it."""
    program = (
        "import sys, tensorboard_sidecar.logger_service.commands;"
        " print({'matplotlib', 'torch', 'tensorboardX'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_projection_does_not_load_torch_where_it_is_installed_and_leaves_it_importable() -> None:
    program = (
        "import sys, tensorboard_sidecar.logger_service.projection.follower; print('torch' in sys.modules);"
        " import torch; print(torch.ones(2))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\ntensor([1., 1.])\n"


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


def test_recordings_in_log_directories_are_replayed_where_they_lie(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Those of a folder that a helper shows at present are left to the helper; the others are replayed."""
    for name in ("a", "b", "c"):
        write_recording(tmp_path / name / RECORDING_NAME, SAID)
    with folder_lock(tmp_path / "b" / RECORDING_NAME, "recordings"):
        assert main(["replay", str(tmp_path)]) == 2
        in_use = f"a running helper makes the event files in {tmp_path / 'b'} already"
        assert in_use in caplog.text
        assert main(["replay", str(tmp_path / "b")]) == 2
        assert in_use in capsys.readouterr().err
    assert [len(event_files(tmp_path / name)) for name in ("a", "b", "c")] == [1, 0, 1]
    assert main(["replay", str(tmp_path / "b"), str(tmp_path / "a" / RECORDING_NAME)]) == 0
    said = capsys.readouterr().out
    assert "already there, 0 new records" in said
    assert f"tensorboard --logdir {tmp_path} " in said
    assert len(event_files(tmp_path / "b")) == 1


def test_a_recording_in_no_log_directory_needs_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_recording(tmp_path, SAID)
    assert main(["replay", str(folder)]) == 2
    needs = f"{folder} lies in no log directory; say where its event files shall be: --logdir DIR"
    assert needs in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "none")]) == 2
