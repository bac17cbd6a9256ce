"""Settings for all tests."""

import gc
import os
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from support.machine.shared_folder import shared_folder
from support.running.embedded import kill_helpers_in
from support.running.programs import LoggerProcess
from support.running.reports import sendable

from tensorboard_sidecar.protocol.outbox import outbox_files

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# OpenMP reads this policy when torch is loaded, which is later. Threads that spin while they wait take the cores from
# all other processes: 300 small matrix products cost 5 s of processor time instead of 0.1 s.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# How long an example takes is the machine's business; a hanging test ends by pytest's own timeout.
settings.register_profile("project", deadline=None)
settings.load_profile("project")

# A script's background ("make test &") ignores Ctrl-C, and so would every program that is started there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return an empty folder in shared memory."""
    with shared_folder() as folder:
        yield folder


@pytest.fixture
def outboxes(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder that outboxes are made in, and see that no sender and no helper outlives its test."""
    with shared_folder() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        monkeypatch.setattr(outbox_files, "_SHARED_MEMORY", folder)
        monkeypatch.setattr(outbox_files, "_DISK", tmp_path_factory.mktemp("disk"))
        before = set(threading.enumerate())
        yield outbox_files.outbox_root()
        if list(folder.glob("tensorboard-sidecar-helpers-*")):
            kill_helpers_in(folder)
        left = [thread for thread in threading.enumerate() if thread.name == "telemetry-sender"]
        assert before.issuperset(left), "a telemetry was not closed"


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[LoggerProcess]:
    """Return a logger that is not started; whatever was started last is killed at the end."""
    logger = LoggerProcess(tmp_path)
    yield logger
    if logger.process is not None and logger.process.poll() is None:
        logger.kill()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> "LoadScopeScheduling | None":
    """Distribute with ``--dist loadgroup``: files of a group go to one process, which makes their fixtures once.

    pytest-xdist 3.8 marks groups in an attribute that pytest 9 no longer reads, so that its own groups have no effect.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from support.running.grouping import GroupScheduling  # noqa: PLC0415 - pytest-xdist may not be installed

    return GroupScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the long tests first: two processes that share the tests then end at about the same time."""
    items.sort(key=lambda item: item.get_closest_marker("system") is None)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the million objects of libraries and of collected tests."""
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Make reports sendable: a worker that cannot send the report of one failed test would end the whole run."""
    return sendable((yield))
