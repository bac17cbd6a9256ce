import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorboardX
from support.running.spoken import read_said

import tensorboard_sidecar
from tensorboard_sidecar.protocol.messages import Images, Point, Text
from tensorboard_sidecar.telemetry import global_writer
from tensorboard_sidecar.telemetry.global_writer import GlobalSummaryWriter, StepCounters
from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def _no_shared_writer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Let each test begin without the shared writer of the program, and in an empty folder."""
    monkeypatch.setattr(GlobalSummaryWriter, "_shared", None)
    monkeypatch.setenv("TENSORBOARD_SIDECAR_LOGGER", "off")
    monkeypatch.chdir(tmp_path)
    yield
    if GlobalSummaryWriter._shared is not None:
        GlobalSummaryWriter._shared.close()


def kept(folder: str | Path) -> list[tuple[str, int]]:
    """Return the kind and the step of each value in the only recording below a folder."""
    said = read_said(Path(folder))
    return [(type(each.message).__name__, each.step) for each in said[1:-1]]


def test_each_kind_and_tag_has_its_own_steps() -> None:
    with closing(GlobalSummaryWriter("logs")) as writer:
        writer.add_scalar("loss", 0.5)
        writer.add_scalar("loss", 0.25)
        writer.add_scalar("other", 1.0)
        writer.add_text("loss", "words")
        writer.add_image("loss", np.zeros((3, 4, 4), np.uint8))
        writer.add_scalar("loss", 0.125)
    assert kept("logs") == [("Scalars", 0), ("Scalars", 1), ("Scalars", 0), ("Text", 0), ("Images", 0), ("Scalars", 2)]


def test_the_values_are_those_of_a_summary_writer() -> None:
    with closing(GlobalSummaryWriter("logs")) as writer:
        assert type(writer.smw) is SummaryWriter
        writer.add_scalar("loss", 0.5, walltime=1.0)
        writer.add_text("notes", "words")
        writer.add_image("picture", np.full((4, 5, 3), 7, np.uint8), dataformats="HWC")
    scalars, text, images = (said.message for said in read_said(Path("logs/.tensorboard-sidecar"))[1:-1])
    assert scalars == Point("loss", 0.5)  # a time of its own
    assert isinstance(text, Text)
    assert text.text == "words"
    assert isinstance(images, Images)


def test_modules_of_a_program_share_a_writer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tensorboard_sidecar.telemetry.global_writer")
    writer = GlobalSummaryWriter.getSummaryWriter()
    assert tensorboard_sidecar.GlobalSummaryWriter.getSummaryWriter() is writer
    with closing(GlobalSummaryWriter("other")) as other:
        assert other.smw is not writer.smw
    assert [record.getMessage() for record in caplog.records] == [
        f"the global writer writes into {writer.smw.get_logdir()}"
    ]


def test_it_has_the_methods_of_tensorboardxs() -> None:
    theirs = {name for name in vars(tensorboardX.GlobalSummaryWriter) if not name.startswith("_")}
    assert theirs <= set(vars(GlobalSummaryWriter))


def test_threads_keep_the_order_of_the_steps() -> None:
    with closing(GlobalSummaryWriter("logs")) as writer:

        def add_many() -> None:
            for _ in range(50):
                writer.add_scalar("loss", 0.0)

        threads = [threading.Thread(target=add_many) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [step for _, step in kept("logs")] == list(range(100))


def in_child(function: Any, *arguments: Any) -> None:
    child = FORK.Process(target=function, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode == 0


def test_forked_children_go_on_with_the_steps_of_their_parent() -> None:
    counters = StepCounters()
    assert [counters.next("scalar", "loss") for _ in range(3)] == [0, 1, 2]
    in_child(lambda: [counters.next("scalar", tag) for tag in ("loss", "new", "new")])
    assert [counters.next("scalar", tag) for tag in ("loss", "new", "other")] == [4, 2, 0]


def test_forked_children_keep_their_values_at_steps_of_their_own() -> None:
    with closing(GlobalSummaryWriter("logs")) as writer:
        writer.add_scalar("loss", 0.5)

        def log_in_child() -> None:
            writer.add_scalar("loss", 0.25)
            writer.close()

        in_child(log_in_child)
        writer.add_scalar("loss", 0.125)
    recordings = Path("logs/.tensorboard-sidecar/logs").iterdir()
    assert sorted([step for _, step in kept(recording)] for recording in recordings) == [[0, 2], [1]]


def test_when_the_table_is_full_a_process_counts_by_itself() -> None:
    counters = StepCounters(slots=2)
    tags = ["a", "b", "c", "d"] * 2
    assert [counters.next("scalar", tag) for tag in tags] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("tag", ["", "é", "\ud800", "x" * 10_000])
def test_any_text_is_a_tag(tag: str) -> None:
    counters = StepCounters()
    assert [counters.next("scalar", tag), counters.next("scalar", tag)] == [0, 1]


def test_a_tag_that_is_no_text_is_a_fault_and_raises_nothing() -> None:
    with closing(GlobalSummaryWriter("logs")) as writer:
        writer.add_scalar(object(), 1.0)  # type: ignore[arg-type]
        writer.add_scalar(7, 1.0)  # type: ignore[arg-type]
        assert writer.smw.telemetry.faults.total == 1


def test_a_process_that_was_killed_within_its_call_costs_one_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(global_writer, "_LOCK_SECONDS", 0.1)
    with closing(GlobalSummaryWriter("logs")) as writer:

        def die() -> None:
            writer._lock.acquire()
            os.kill(os.getpid(), signal.SIGKILL)

        child = FORK.Process(target=die)
        child.start()
        child.join(60)
        writer.add_scalar("loss", 0.5)
        writer.add_scalar("loss", 0.25)
    assert kept("logs") == [("Scalars", 0), ("Scalars", 1)]
    assert sum("holds the lock of the global writer" in record.getMessage() for record in caplog.records) == 1


def test_a_call_within_a_call_of_the_same_thread_does_not_wait() -> None:
    """As in a signal handler."""
    with closing(GlobalSummaryWriter("logs")) as writer:
        writer._add("scalar", "outer", lambda step: writer.add_scalar("inner", 0.5))  # noqa: ARG005 - no step here
    assert kept("logs") == [("Scalars", 0)]


def test_a_machine_without_semaphores_gets_a_lock_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSemaphores:
        def RLock(self) -> None:  # noqa: N802 - the name in multiprocessing
            raise PermissionError

    monkeypatch.setattr(global_writer, "get_context", lambda _method: NoSemaphores())
    with closing(GlobalSummaryWriter("logs")) as writer:
        assert isinstance(writer._lock, type(threading.RLock()))
        writer.add_scalar("loss", 0.5)
    assert kept("logs") == [("Scalars", 0)]
