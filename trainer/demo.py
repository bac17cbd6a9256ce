"""``make demo``: a logger, a TensorBoard and a trainer on this machine, on a small data set made for it.

Three programs, started as anybody would start them; this one only waits, and stops what it started.
"""

import argparse
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Final, Never

from tensorboard_sidecar.trainer.invocation import how_to_run

DATA: Final = Path("data/flickr8k")
SYNTHETIC_DATA: Final = Path("data/flickr8k-synthetic")
STOP_SECONDS: Final = 60.0


class _Terminated(KeyboardInterrupt):
    """SIGTERM: unlike a Ctrl-C on the terminal it reached this program alone."""


class _NotUp(RuntimeError):
    """A program that the demo needs did not come up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the trainer's exit code, 130 or 143 when it was stopped, 2 when it could not begin."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _demo(options)
    except _NotUp as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print("\nstopped")
        return 143 if isinstance(stopped, _Terminated) else 130


def _terminate(_number: int, _frame: FrameType | None) -> Never:
    raise _Terminated


def _demo(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = options.root_dir or (DATA if DATA.is_dir() else SYNTHETIC_DATA)
    if data == SYNTHETIC_DATA and (code := _run("demo-data", str(data))):
        return code
    recordings, logdir, checkpoints = folder / "recordings", folder / "runs_brain_v2", folder / "checkpoints"
    with ExitStack() as stack:
        logger = [
            "tensorboard_sidecar",
            "serve",
            "--bind",
            "tcp://127.0.0.1:*",
            "--recordings",
            str(recordings),
            "--logdir",
            str(logdir),
            *("--health", "none", "--adopt", "none"),  # other runs and loggers of this machine are not the demo's
        ]
        endpoint = stack.enter_context(_program(logger, folder / "logger.log", r"^listening on (\S+)\n"))
        address = stack.enter_context(
            _program(_tensorboard(logdir), folder / "tensorboard.log", r"^TensorBoard \S+ at (\S+?)/? ")
        )
        print(f"\n  TensorBoard   {address}   (shows the run in some ten seconds)\n", flush=True)
        code = _run(
            "train", "--root_dir", str(data), "--endpoint", endpoint, "--savedir", str(checkpoints), *options.trainer
        )
        print(f"\n  runs          {logdir}\n  recordings    {recordings}\n  checkpoints   {checkpoints}")
        print(f"  again         {how_to_run('replay')} {recordings} --logdir replayed")
        if options.keep and code == 0:
            print(f"\n  TensorBoard stays at {address}; Ctrl-C ends it", flush=True)
            signal.pause()
    return code


def _run(command: str, *arguments: str) -> int:
    """Run a command of this project in the foreground; Ctrl-C and SIGTERM reach it, and it ends in its own way."""
    with subprocess.Popen([sys.executable, "-m", "tensorboard_sidecar", command, *arguments]) as process:
        while True:
            try:
                return process.wait()
            except _Terminated:
                process.terminate()
            except KeyboardInterrupt:
                continue


@contextmanager
def _program(arguments: Sequence[str], log: Path, announcement: str) -> Iterator[str]:
    """Run a module in the background, out of Ctrl-C's reach, and end it with SIGTERM.

    Yields the address that it announces: it chose a port that is its own, and at any other may be somebody else.
    Raises _NotUp, with what it said, when it ends before that.
    """
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _announced(process, announcement, log, before)
    finally:
        if process.poll() is not None:
            print(f"{arguments[0]} ended early; see {log}", file=sys.stderr)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _announced(process: subprocess.Popen[bytes], announcement: str, log: Path, before: int) -> str:
    """Wait until ``process`` has said ``announcement`` behind the first ``before`` bytes of ``log``."""
    while True:
        ended = process.poll() is not None
        said = log.read_bytes()[before:].decode("utf-8", errors="replace")
        if found := re.search(announcement, said, re.MULTILINE):
            return found[1]
        if ended:
            raise _NotUp("\n  ".join([f"the {log.stem} did not come up:", *said.splitlines()[-3:]]))
        sleep(0.05)


def _tensorboard(logdir: Path) -> list[str]:
    """TensorBoard's command; without a port it takes the first free one from 6006."""
    kept = "scalars=100000,images=200,text=200,audio=50"
    options = {"--logdir": str(logdir), "--host": "127.0.0.1", "--samples_per_plugin": kept}
    return ["tensorboard.main", "--reload_interval=5", *(f"{name}={value}" for name, value in options.items())]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tensorboard_sidecar.trainer.demo",
        description="Start a logger, a TensorBoard and a trainer here, and train on a small data set.",
        epilog="Arguments behind -- go to the trainer: python -m tensorboard_sidecar.trainer.demo -- --epochs 3",
    )
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where runs go (default: %(default)s)")
    parser.add_argument("--root_dir", "--root-dir", type=Path, help=f"data set (default: {DATA} or {SYNTHETIC_DATA})")
    parser.add_argument("--keep", action="store_true", help="keep TensorBoard up after training, until Ctrl-C")
    parser.add_argument("trainer", nargs="*", help="more arguments for the trainer")
    return parser


if __name__ == "__main__":
    sys.exit(main())
