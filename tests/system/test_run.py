"""``tensorboard-sidecar run``: whole programs, their children, and what surrounds them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.running.spoken import read_said

from tensorboard_sidecar.protocol.messages import Point, Scalars
from tensorboard_sidecar.telemetry.replacement.environment import STARTUP_FOLDER, VARIABLE, with_replacement

pytestmark = pytest.mark.system

RUN = [sys.executable, "-m", "tensorboard_sidecar", "run"]
OURS = "tensorboard_sidecar.telemetry.summary_writer"

# What a program can see of its own start.
STATE = """
import json, os, signal, sys
state = {
    "argv": sys.argv, "path": sys.path, "name": __name__, "file": __file__, "package": __package__,
    "spec": __spec__ and __spec__.name, "flags": repr(sys.flags), "orig_argv": sys.orig_argv,
    "modules": sorted(sys.modules), "handler": repr(signal.getsignal(signal.SIGINT)), "folder": os.getcwd(),
    "stdin": sys.stdin.read(), "files": sorted(os.listdir("/proc/self/fd")),
}
print(json.dumps(state))
sys.exit(7)
"""

# A small library in the place of tensorboardX, so that a program without a writer of ours starts fast.
SMALL_LIBRARY = "class SummaryWriter: ...\nclass FileWriter: ..."
USES_SMALL_LIBRARY = "from tensorboardX import SummaryWriter; print(SummaryWriter.__module__)"


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which the writers keep recordings, and start no helper."""
    return {**os.environ, "TENSORBOARD_SIDECAR_LOGGER": "off", **more}


def run(*arguments: str | Path, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end with ``tensorboard-sidecar run``, from the folder ``cwd``."""
    return python(*RUN[1:], *arguments, cwd=cwd, **options)


def python(*arguments: str | Path, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program without the command, to compare; both runs have the same options."""
    options = {"env": environment(), "input": "", "timeout": 240, **options}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **options)


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


def scalars_in(log_dir: Path) -> list[tuple[str, float, int]]:
    """Return the scalars of the recording in a writer's folder: tag, value, step."""
    found = []
    for said in read_said(log_dir / ".tensorboard-sidecar"):
        match said.message:
            case Scalars(values):
                found += [(tag, float(value), said.step) for tag, value in values.items()]
            case Point(tag=tag, value=value):
                found.append((tag, float(value), said.step))
    return found


@pytest.mark.parametrize(
    "program",
    [
        ["state.py"],
        ["./state.py", "-x", "--", "a b", "", "--help", "--check"],
        ["/state.py"],
        ["-m", "state", "-m", "x"],
        ["-m", "package", "--version"],
        ["package", "é"],
        ["-", "a"],
    ],
    ids=" ".join,
)
def test_a_program_sees_what_it_sees_under_python(program: list[str], tmp_path: Path) -> None:
    """Arguments, path, module, flags, standard input and open files, and the exit code; no module more is loaded."""
    write(tmp_path, state=STATE)
    (tmp_path / "package").mkdir()
    write(tmp_path / "package", __main__=STATE, __init__="")
    program = [f"{tmp_path}{part}" if part.startswith("/") else part for part in program]
    given = STATE.replace("__file__", "None").replace("sys.stdin.read()", "None") if program[0] == "-" else "a\nb"
    options = {"cwd": tmp_path, "input": given, "env": environment(PYTHONPATH="libs:")}
    plain, replaced = python(*program, **options), run(*program, **options)
    assert plain.returncode == replaced.returncode == 7, replaced.stderr
    assert replaced.stderr == plain.stderr
    assert json.loads(replaced.stdout) == json.loads(plain.stdout)


@pytest.mark.parametrize("program", [["empty"], ["-m", "no_such_module"], ["-m", "empty"], ["torn.py"], ["raises.py"]])
def test_an_error_of_the_program_is_told_as_python_tells_it(program: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path, torn="import (", raises="1 / 0")
    plain, replaced = python(*program, cwd=tmp_path), run(*program, cwd=tmp_path)
    assert (replaced.returncode, replaced.stdout, replaced.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert plain.returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_reaches_the_program_itself(number: signal.Signals, tmp_path: Path) -> None:
    """The program has the process id that the command had; Ctrl-C ends it as it ends python."""
    write(tmp_path, train="import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    command = [*RUN, "train.py"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert int(process.stdout.readline()) == process.pid
        process.send_signal(number)
        assert process.wait(60) == -number
        assert process.stderr.read().endswith("\nKeyboardInterrupt\n") is (number == signal.SIGINT)


# Torch's writer and tensorboardX's, with a class of the program's own. The log directory is the argument.
TRAIN = """
import sys
import tensorboardX
import torch.utils.tensorboard.writer
from tensorboardX.global_writer import SummaryWriter as GlobalsWriter
from tensorboardX.writer import SummaryWriter as InnerWriter
from torch.utils.tensorboard import FileWriter, SummaryWriter

log_dir = sys.argv[1]
writers = {
    SummaryWriter, InnerWriter, GlobalsWriter, tensorboardX.SummaryWriter, torch.utils.tensorboard.SummaryWriter,
    torch.utils.tensorboard.writer.SummaryWriter,
}
print(*{writer.__module__ for writer in writers}, FileWriter.__module__, tensorboardX.FileWriter.__module__)


class MyWriter(SummaryWriter):
    def __init__(self, log_dir, prefix):
        super().__init__(log_dir=log_dir)
        self.prefix = prefix

    def add_scalar(self, tag, *args, **kwargs):
        super().add_scalar(self.prefix + tag, *args, **kwargs)


with SummaryWriter(log_dir + "/torch") as writer:
    assert isinstance(writer, SummaryWriter) and not isinstance(writer, MyWriter)
    writer.add_scalar("loss", 0.5, 1)
writer = tensorboardX.SummaryWriter(logdir=log_dir + "/tensorboardX")
assert isinstance(writer, tensorboardX.SummaryWriter)
writer.add_scalar("loss", 0.25, 2)
writer.close()
with MyWriter(log_dir + "/mine", "my/") as mine:
    assert isinstance(mine, SummaryWriter)
    mine.add_scalar("loss", 0.125, global_step=3)
"""
OTHER_WRITERS = "torch.utils.tensorboard.writer tensorboardX.writer"


@pytest.mark.parametrize("way", ["script", "module"])
def test_a_programs_writers_are_replaced(way: str, tmp_path: Path) -> None:
    """Beside files of the user with names of this project's rooms, which stay the user's."""
    write(tmp_path, train=f"import trainer, protocol\n{TRAIN}", trainer="print('my trainer')", protocol="")
    done = run(*(["train.py"] if way == "script" else ["-m", "train"]), "logs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"my trainer\n{OURS} {OTHER_WRITERS}\n"
    assert scalars_in(tmp_path / "logs/torch") == [("loss", 0.5, 1)]
    assert scalars_in(tmp_path / "logs/tensorboardX") == [("loss", 0.25, 2)]
    assert scalars_in(tmp_path / "logs/mine") == [("my/loss", 0.125, 3)]


# Each child makes its own writer; the parent imports none.
CHILDREN = """
import multiprocessing, subprocess, sys
from concurrent.futures import ProcessPoolExecutor

def work(name):
    from torch.utils.tensorboard import SummaryWriter
    with SummaryWriter(f"logs/{name}") as writer:
        writer.add_scalar("loss", 0.5, 1)
    return SummaryWriter.__module__

if __name__ == "__main__":
    if sys.argv[1] == "subprocess":
        subprocess.run([sys.executable, "-c", "import train; print(train.work('0'))"], check=True)
    else:
        with ProcessPoolExecutor(1, multiprocessing.get_context(sys.argv[1])) as pool:
            print(*pool.map(work, "0"))
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("way", ["subprocess", "spawn", "fork"])
def test_the_writers_of_children_are_replaced(way: str, tmp_path: Path) -> None:
    write(tmp_path, train=CHILDREN)
    done = run("train.py", way, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{OURS}\n"), done.stderr
    assert scalars_in(tmp_path / "logs/0") == [("loss", 0.5, 1)]


RANKS = """
import torch
from torch import distributed
from torch.utils.tensorboard import SummaryWriter

distributed.init_process_group("gloo")
rank = distributed.get_rank()
total = torch.ones(1)
distributed.all_reduce(total)
with SummaryWriter(f"logs/{rank}") as writer:
    writer.add_scalar("total", total, rank)
distributed.destroy_process_group()
"""


def test_the_writers_of_ranks_under_torchrun_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, train=RANKS)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = run(*torchrun, "train.py", cwd=tmp_path, env=environment(OMP_NUM_THREADS="1"))
    assert done.returncode == 0, done.stderr
    assert [scalars_in(tmp_path / f"logs/{rank}") for rank in range(2)] == [[("total", 2.0, 0)], [("total", 2.0, 1)]]


def test_children_that_python_shields_and_those_without_the_variable_keep_their_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        tensorboardX=SMALL_LIBRARY,
        train="import os, subprocess, sys\n"
        f"for options in (['-E'], ['-S'], []):\n"
        f"    if not options: del os.environ[{VARIABLE!r}]\n"
        f"    subprocess.run([sys.executable, *options, '-c', {USES_SMALL_LIBRARY!r}], check=True)",
    )
    done = run("train.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "tensorboardX\n" * 3, "")


def test_when_the_writer_cannot_be_imported_the_program_goes_on_with_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    write(folder, tensorboardX=SMALL_LIBRARY, msgspec="raise ImportError('it is\\nbroken')", train=USES_SMALL_LIBRARY)
    done = run("program/train.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "tensorboardX\n")
    assert done.stderr == (
        "tensorboard-sidecar: the program uses tensorboardX's own SummaryWriter: ImportError: it is broken\n"
    )


@pytest.mark.parametrize("text", ["print('mine', __name__)", "raise ValueError('mine')", "import no_such_module"])
def test_the_users_own_sitecustomize_still_runs(text: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    write(tmp_path / "site", sitecustomize=text)
    write(tmp_path, train="import sys\nprint(getattr(sys.modules.get('sitecustomize'), '__file__', None), *sys.path)")
    options = {"cwd": tmp_path, "env": environment(PYTHONPATH=str(tmp_path / "site"))}
    plain = python("train.py", **options)
    hooked = python("train.py", cwd=tmp_path, env=with_replacement(options["env"]))
    assert (hooked.returncode, hooked.stdout, hooked.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert "mine" in plain.stdout + plain.stderr or "no_such_module" in plain.stderr


def test_the_hook_costs_no_import_at_the_start_of_an_interpreter(tmp_path: Path) -> None:
    """Not even for programs that import torch: only a library with a SummaryWriter loads this project."""
    program = "import sys; import json; print(*sorted(sys.modules))"
    plain = python("-c", program, cwd=tmp_path)
    hooked = python("-c", program, cwd=tmp_path, env=with_replacement(environment()))
    assert hooked.stdout == plain.stdout


def test_run_within_run_adds_the_hook_once(tmp_path: Path) -> None:
    write(tmp_path, train="import os; print(os.environ['PYTHONPATH'])")
    done = run("-m", "tensorboard_sidecar", "run", "train.py", cwd=tmp_path, env=environment(PYTHONPATH="libs"))
    assert done.stdout == f"{STARTUP_FOLDER}:libs\n"


def test_commands_of_this_project_within_a_program_import_no_writer(tmp_path: Path) -> None:
    """The logger imports tensorboardX for its event files, and must not load torch."""
    program = (
        "import sys, tensorboard_sidecar.logger_service.events.to_events\n"
        "import tensorboardX\nprint(tensorboardX.SummaryWriter.__module__, 'torch' in sys.modules)"
    )
    done = python("-c", program, cwd=tmp_path, env=with_replacement(environment()))
    assert (done.stdout, done.stderr) == ("tensorboardX.writer False\n", "")
