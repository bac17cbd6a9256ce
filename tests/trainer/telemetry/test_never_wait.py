"""C1: no call on the training thread touches the disk or a socket, nor waits for anybody.

Proven by looking at its system calls, with a logger that is absent and with a recording on disk. Shared memory may be
mapped, allocated and renamed in: that is where the outbox lies.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from support.programs import free_port

LOOP: Final = """
import os, sys
from pathlib import Path
import torch
from trainer.telemetry import Telemetry, location
from protocol.messages import Chart
memory, record, endpoint = sys.argv[1:]
location._SHARED_MEMORY = Path(memory)
torch.set_num_threads(1)
telemetry = Telemetry("run", endpoint=endpoint, record=record, strict=True, drain_seconds=0.1, outbox_bytes=2**20)
scalars = {f"loss/{n}": torch.tensor(float(n)) for n in range(19)}
weights = {f"weights/{n}": torch.randn(1000) for n in range(4)}
pictures, clip, vectors = torch.rand(4, 3, 32, 32), torch.rand(4000), torch.rand(64, 16)
meta = torch.zeros((), device="meta")

def step(number):
    telemetry.scalars(number, scalars)
    telemetry.writer.add_scalar("a", 1.0, number)
    telemetry.summaries(number, weights)
    telemetry.matrix(number, "m", vectors, value_range=(-1.0, 1.0))
    telemetry.images(number, "i", pictures)
    telemetry.text(number, "t", "text")
    telemetry.audio(number, "s", [clip], sample_rate_hz=8000)
    telemetry.embedding(number, "e", vectors, metadata={"c": ["x"] * 64}, images=torch.rand(64, 3, 16, 16))
    telemetry.layout(number, {"a": {"b": Chart("multiline", ["c"])}})
    telemetry.scalars(number, {"device": meta})
    telemetry.health()
    telemetry.lag_seconds

step(0)
__BEGIN__
for number in range(1, 40):
    step(number)
__END__
assert telemetry.health()["telemetry/refused"] > 0, "the outbox was to be full at the end"
telemetry.close()
"""
MARK: Final = 'os.access("/{}", os.F_OK)\n'
STRACE: Final = (
    *("strace", "--follow-forks", "--seccomp-bpf", "--decode-fds=path"),
    "--trace=%file,%desc,%network,nanosleep,clock_nanosleep",
)


@pytest.fixture
def memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="test-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def run(program: str, memory: Path, tmp_path: Path, *front: str) -> subprocess.CompletedProcess[str]:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    command = [*front, sys.executable, "-c", program, str(memory), str(tmp_path / "record"), endpoint]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_training_thread_makes_no_system_call_but_on_shared_memory(memory: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = LOOP.replace("__BEGIN__\n", MARK.format("begin")).replace("__END__\n", MARK.format("end"))
    done = run(program, memory, tmp_path, *STRACE, "--output", str(trace))
    if "PTRACE" in done.stderr:
        pytest.skip(f"this process may not be traced: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    thread = next(line.split()[0] for line in lines if '"/begin"' in line)
    mine = [line.split(maxsplit=1)[1] for line in lines if line.split()[0] == thread]
    begin, end = (next(at for at, line in enumerate(mine) if f'"/{name}"' in line) for name in ("begin", "end"))
    looked_at = mine[begin + 1 : end]
    assert any(str(memory) in line for line in looked_at), "segments were begun, or the trace shows nothing"
    foreign = [line for line in looked_at if not _harmless(line, memory)]
    assert not foreign


def _harmless(line: str, memory: Path) -> bool:
    """Tell whether a traced call takes memory, or all files that it names lie in ours; other lines say how one ended."""
    if line.startswith(("<... ", "--- ", "+++ ")) or "MAP_ANONYMOUS" in line:
        return True
    files = [*re.findall(r'"(/[^"]*)"', line), *re.findall(r"\d</([^>]*)>", line)]
    return bool(files) and all(str(memory).lstrip("/") in file for file in files)


@pytest.mark.system
def test_the_training_thread_opens_no_file_or_socket_but_in_shared_memory(memory: Path, tmp_path: Path) -> None:
    """The same by Python's own account, where no tracer is to be had."""
    watch = """
import threading
training, watching, seen = threading.get_ident(), [], []
def audit(event, arguments):
    if watching and threading.get_ident() == training:
        seen.append((event, arguments))
sys.addaudithook(audit)
watching.append(True)
"""
    judge = """
watching.clear()
names = ("open", "socket.", "os.", "shutil.", "tempfile.", "subprocess.", "mmap.")
for event, arguments in seen:
    if event.startswith(names) and event != "mmap.__new__":
        assert str(arguments[0]).startswith(memory), (event, arguments)
assert any(event == "os.rename" for event, _ in seen), "a segment was begun"
"""
    done = run(LOOP.replace("__BEGIN__", watch).replace("__END__", judge), memory, tmp_path)
    assert done.returncode == 0, done.stderr
