"""Outboxes of the tests lie in shared memory, but not among those of programs that run."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from trainer.telemetry import location

torch.set_num_threads(1)


@contextmanager
def _shared_folder() -> Iterator[Path]:
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="test-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return an empty folder in shared memory."""
    with _shared_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def outboxes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder that outboxes are made in, and see that no sender outlives its test."""
    with _shared_folder() as folder:
        monkeypatch.setattr(location, "_SHARED_MEMORY", folder)
        before = set(threading.enumerate())
        yield location.outbox_root()
        left = [thread for thread in threading.enumerate() if thread.name == "telemetry-sender"]
        assert before.issuperset(left), "a telemetry was not closed"
