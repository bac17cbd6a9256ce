"""The program of ``make demo``: complete, interrupted, and unable to start."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from support.machine.waiting import wait_until
from support.running.programs import run_command
from support.source import ROOT

from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock

pytestmark = pytest.mark.system
SMALL = ("--batch_size", "8", "--embed_dim", "32", "--image_size", "32")
TRAINER = ("--", "--epochs", "1", *SMALL)


class Demo:
    """The demo in its own session, so that Ctrl-C reaches the same processes as in a terminal."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.output = folder, folder / "output"
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tensorboard_sidecar.trainer.demo", *arguments],
                cwd=folder,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text("utf-8")

    def wait_for(self, what: str) -> None:
        wait_until(lambda: what in self.said() or self.process.poll() is not None, seconds=120, what=what)
        assert what in self.said(), self.said()

    def interrupt(self) -> None:
        """Send Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def left_behind(self) -> list[str]:
        """Return the command lines of programs still running in the demo's folder."""
        running = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() == self.folder:
                    running.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return running


@contextmanager
def running_demo(folder: Path, *arguments: str) -> Iterator[Demo]:
    demo = Demo(folder, *arguments)
    try:
        yield demo
    finally:
        demo.process.terminate()
        demo.process.wait(120)


def test_the_demo_trains_and_says_where_everything_is(tmp_path: Path, data: Path) -> None:
    with running_demo(tmp_path / "demo", "--root_dir", str(data), *TRAINER) as demo:
        assert demo.process.wait(240) == 0, demo.said()
        said = demo.said()
        assert said.index("http://127.0.0.1:") < said.index("epoch 1/1")
        for fact in (
            "best validation loss",
            "Recall@1",
            "findings",
            "telemetry cost",
            "runs",
            "recordings",
            "checkpoints",
        ):
            assert re.search(rf"^ *{fact}  +\S", said, re.MULTILINE), fact
        assert re.search(r"^1 run, \d+ of \d+ checks made: ", said, re.MULTILINE), "the doctor has looked at the run"
        assert "ended early" not in said
        assert demo.left_behind() == []
        again = re.search(r"^ *again +(.*)$", said, re.MULTILINE)
        assert again is not None
        replayed = subprocess.run(
            again[1].split(), cwd=demo.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
        )
        assert replayed.returncode == 0, "the command that the demo tells is no command"
    for logdir in ("demo/runs_brain_v2", "replayed"):
        assert run_command("verify", demo.folder / logdir).returncode == 0


def test_demos_started_at_once_each_tell_their_own_tensorboard(tmp_path: Path, data: Path) -> None:
    """Regression: both demos found port 6006 free, and both printed the address of the same TensorBoard."""
    with ExitStack() as stack:
        demos = [stack.enter_context(running_demo(tmp_path / f"demo{i}", "--root_dir", str(data))) for i in range(2)]
        for demo in demos:
            demo.wait_for("http://")
        addresses = {re.findall(r"http://\S+", demo.said())[0] for demo in demos}
        assert len(addresses) == 2
        for address in addresses:
            assert urlopen(address, timeout=30).status == 200


@pytest.mark.parametrize(
    ("stop", "code"),
    [(Demo.interrupt, 130), (lambda demo: demo.process.terminate(), 143)],
    ids=["ctrl_c", "sigterm"],
)
def test_stopped_while_it_trains_it_stops_all_that_it_started(
    tmp_path: Path, data: Path, stop: Callable[[Demo], None], code: int
) -> None:
    with running_demo(tmp_path / "demo", "--root_dir", str(data), "--", "--epochs", "1000", *SMALL) as demo:
        demo.wait_for("epoch    1/1000")
        stop(demo)
        assert demo.process.wait(120) == code, demo.said()
        assert "Go on with: " in demo.said()
        assert demo.left_behind() == []


def test_stopped_while_it_makes_its_data_it_goes_no_further_and_the_next_demo_begins_anew(tmp_path: Path) -> None:
    """Regression: an unfinished folder was taken for a data set by every later demo."""
    with running_demo(tmp_path / "demo") as demo:
        unfinished = demo.folder / "data/flickr8k-synthetic/.unfinished"
        wait_until(unfinished.exists, seconds=60, what="data in the making")
        demo.interrupt()
        assert demo.process.wait(60) == 130, demo.said()
        assert "TensorBoard" not in demo.said()
        assert not unfinished.exists()
    with running_demo(tmp_path / "demo") as demo:
        wait_until(unfinished.exists, seconds=60, what="data in the making again")


def test_a_logger_that_cannot_start_is_told_before_training_begins(tmp_path: Path, data: Path) -> None:
    """Regression: any program at the logger's port was taken for the logger."""
    with (
        folder_lock(tmp_path / "demo/demo/recordings", "--recordings"),
        running_demo(tmp_path / "demo", "--root_dir", str(data)) as demo,
    ):
        assert demo.process.wait(60) == 2
        assert "the logger did not come up" in demo.said()
        assert "is written by another logger" in demo.said()
        assert demo.left_behind() == []
