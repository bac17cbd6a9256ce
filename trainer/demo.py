"""``make demo``: a logger, a TensorBoard and a trainer on this machine, on a small data set.

The demo starts the three programs with the commands that users type, waits, and stops them.
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

from tensorboard_sidecar.command_line import HelpFormatter, how_to_run

DATA: Final = Path("data/flickr8k")
SYNTHETIC_DATA: Final = Path("data/flickr8k-synthetic")
STOP_SECONDS: Final = 60.0
_DESCRIPTION: Final = """\
Start a logger, a TensorBoard and a trainer on this machine, and train on a small data set. The demo prints the address
of TensorBoard. All programs end with the training.
"""
_EPILOG: Final = """\
examples:
  python -m tensorboard_sidecar.trainer.demo
  python -m tensorboard_sidecar.trainer.demo --keep --folder /tmp/demo
  python -m tensorboard_sidecar.trainer.demo -- --epochs 3 --batch_size 16     (flags behind -- go to the trainer)

exit codes: 0 finished, 2 a program could not start, or wrong settings, 130 stopped by Ctrl-C, 143 stopped by SIGTERM
"""


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which only this program received; a Ctrl-C on the terminal reaches the foreground programs too."""


class _NotUp(RuntimeError):
    """A program that the demo needs ended before it was ready."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the trainer's exit code, 130 or 143 when stopped, 2 when a program could not start."""
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
            *("tensorboard_sidecar", "serve", "--bind", "tcp://127.0.0.1:*"),
            *("--recordings", str(recordings), "--logdir", str(logdir)),
            *("--health", "none", "--adopt", "none"),  # the demo leaves other runs and loggers on this machine alone
        ]
        endpoint = stack.enter_context(_program(logger, folder / "logger.log", r"^listening on (\S+)\n"))
        address = stack.enter_context(
            _program(_tensorboard(logdir), folder / "tensorboard.log", r"^TensorBoard \S+ at (\S+?)/? ")
        )
        print(f"\n  TensorBoard   {address}   (shows the run in some ten seconds)\n", flush=True)
        code = _run(
            "train", "--root_dir", str(data), "--endpoint", endpoint, "--savedir", str(checkpoints), *options.trainer
        )
        if code == 0:
            print("\nwhat is wrong with the runs, by tensorboard-sidecar doctor", flush=True)
            _run("doctor", str(recordings))
        print(f"\n  runs          {logdir}\n  recordings    {recordings}\n  checkpoints   {checkpoints}")
        print(f"  again         {how_to_run('replay')} {recordings} --logdir replayed")
        if options.keep and code == 0:
            print(f"\n  TensorBoard stays at {address}; Ctrl-C ends it", flush=True)
            signal.pause()
    return code


def _run(command: str, *arguments: str) -> int:
    """Run a command of this project in the foreground; pass SIGTERM on, and wait for the command's own end."""
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
    """Run a module in the background, in a session that Ctrl-C does not reach; end the program with SIGTERM.

    Yields the announced address: the program chose its own port, and at a guessed port another program may listen.
    Raises _NotUp, with the last lines of the log, when the program ends before the announcement.
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
    """Wait for ``announcement`` behind the first ``before`` bytes of ``log``; return its first group."""
    while True:
        ended = process.poll() is not None
        said = log.read_bytes()[before:].decode("utf-8", errors="replace")
        if found := re.search(announcement, said, re.MULTILINE):
            return found[1]
        if ended:
            raise _NotUp("\n  ".join([f"the {log.stem} did not come up:", *said.splitlines()[-3:]]))
        sleep(0.05)


def _tensorboard(logdir: Path) -> list[str]:
    """Return TensorBoard's command; TensorBoard takes the first free port from 6006 on."""
    kept = "scalars=100000,images=200,text=200,audio=50"
    options = ("--reload_interval=5", f"--logdir={logdir}", "--host=127.0.0.1", f"--samples_per_plugin={kept}")
    return ["tensorboard.main", *options]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tensorboard_sidecar.trainer.demo", formatter_class=HelpFormatter)
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="folder of recordings, event files, checkpoints and logs (default: %(default)s)",
    )
    parser.add_argument(
        "--root_dir",
        "--root-dir",
        type=Path,
        metavar="DIR",
        help=f"the data set (default: {DATA} if there is one, else {SYNTHETIC_DATA}, which is made)",
    )
    parser.add_argument("--keep", action="store_true", help="keep TensorBoard running after training, until Ctrl-C")
    parser.add_argument("trainer", nargs="*", metavar="FLAG", help="a flag of tensorboard-sidecar train")
    return parser


if __name__ == "__main__":
    sys.exit(main())
