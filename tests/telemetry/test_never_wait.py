"""C1: no call on the training thread touches the disk or a socket, nor waits for anybody.

Proven by looking at its system calls, with a logger that is absent, with a recording on disk, and up to a full outbox.
Shared memory may be mapped, allocated and renamed in: that is where the outbox lies.
"""

import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from support.machine.children import start, wait_for
from support.machine.waiting import wait_until
from support.running.programs import free_port

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import Chart

STRACE: Final = (
    *("strace", "--follow-forks", "--decode-fds=path"),
    "--trace=%file,%desc,%network,nanosleep,clock_nanosleep",
)
BEGIN, END = "/here-it-begins", "/here-it-ends"


def train(record: Path, begin: Callable[[], object], end: Callable[[], object]) -> None:
    """Make every call there is between ``begin`` and ``end``, until the outbox is full."""
    telemetry = Telemetry(
        "run",
        endpoint=f"tcp://127.0.0.1:{free_port()}",
        record=record,
        strict=True,
        drain_seconds=0.0,
        outbox_bytes=2**20,
    )
    recorded = Telemetry("flight", endpoint=None, record=record, strict=True, drain_seconds=0.0, flight_recorder=8)
    scalars = {f"loss/{n}": torch.tensor(float(n)) for n in range(19)}
    pictures, vectors = torch.rand(4, 3, 32, 32), torch.rand(64, 16)

    def step(number: int) -> None:
        telemetry.scalars(number, scalars)
        telemetry.writer.add_scalar("a", 1.0, number)
        telemetry.scalars(number, {"device": torch.zeros((), device="meta")})
        telemetry.summaries(number, {f"weights/{n}": vectors for n in range(4)})
        telemetry.matrix(number, "m", vectors, value_range=(-1.0, 1.0))
        telemetry.images(number, "i", pictures)
        telemetry.text(number, "t", "text")
        telemetry.audio(number, "s", [vectors.flatten()], sample_rate_hz=8000)
        telemetry.embedding(number, "e", vectors, metadata={"c": ["x"] * 64}, images=pictures.repeat(16, 1, 1, 1))
        telemetry.layout(number, {"a": {"b": Chart("multiline", ["c"])}})
        telemetry.hparams(number, {"lr": 0.1}, {"best": 1.0})
        _ = telemetry.health(), telemetry.findings()
        recorded.scalars(number, scalars)
        recorded.flight(number, scalars | {"not finite": torch.tensor(math.nan)})
        recorded.flight(number, {"device": torch.zeros((), device="meta")})
        recorded.ship_flight("asked")

    step(0)
    begin()
    for number in range(1, 40):
        step(number)
    end()
    assert telemetry.health()["telemetry/refused"] > 0, "the outbox was to be full at the end"
    telemetry.close()
    recorded.close()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_training_thread_makes_no_system_call_but_on_shared_memory(outboxes: Path, tmp_path: Path) -> None:
    trace, messages = tmp_path / "trace", tmp_path / "messages"
    traced, go = os.pipe()

    def work() -> None:
        os.read(traced, 1)
        train(tmp_path / "record", lambda: os.access(BEGIN, os.F_OK), lambda: os.access(END, os.F_OK))

    trainer = start(work)
    command = [*STRACE, f"--output={trace}", f"--attach={trainer}"]
    with messages.open("wb") as output, subprocess.Popen(command, stderr=output) as tracer:
        wait_until(lambda: "attached" in messages.read_text() or tracer.poll() is not None)
        refused = tracer.poll() is not None
        os.write(go, b"!")
        assert wait_for(trainer) == 0
    for descriptor in (traced, go):
        os.close(descriptor)
    if refused:
        pytest.skip(f"this process may not be traced: {messages.read_text()}")
    mine = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if line.split()[0] == str(trainer)]
    first, last = (next(at for at, line in enumerate(mine) if mark in line) for mark in (BEGIN, END))
    looked_at = mine[first + 1 : last]
    assert any(".segment" in line for line in looked_at), "segments were begun, or the trace shows nothing"
    assert [line for line in looked_at if not _harmless(line, outboxes)] == []


def _harmless(line: str, memory: Path) -> bool:
    """Tell whether a traced call takes memory, or names files in ours alone; other lines say how one ended."""
    if line.startswith(("<... ", "--- ", "+++ ")) or "MAP_ANONYMOUS" in line:
        return True
    files = [*re.findall(r'"(/[^"]*)"', line), *re.findall(r"\d<(/[^>]*)>", line)]
    return bool(files) and all(file.startswith(str(memory)) for file in files)


def test_the_training_thread_opens_no_file_or_socket_but_in_shared_memory(outboxes: Path, tmp_path: Path) -> None:
    """The same by Python's own account, where no tracer is to be had."""
    seen: list[tuple[str, Any]] = []
    watched: list[int] = []

    def audit(event: str, arguments: Any) -> None:
        if threading.get_ident() in watched:
            seen.append((event, arguments))

    def judge() -> None:
        watched.clear()
        names = ("open", "socket.", "os.", "shutil.", "tempfile.", "subprocess.", "time.sleep")
        files = [(event, arguments) for event, arguments in seen if event.startswith(names)]
        assert {event for event, _ in files} >= {"open", "os.rename"}, "segments were begun"
        assert [found for found in files if not str(found[1][0]).startswith(str(outboxes))] == []

    def work() -> None:
        sys.addaudithook(audit)  # for as long as this process lives
        train(tmp_path / "record", lambda: watched.append(threading.get_ident()), judge)

    assert wait_for(start(work)) == 0
