"""``serve`` as a process: kills, stops, full disks, and what is on disk afterwards."""

import os
import random
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
from support.events import read_events
from support.peer import Peer
from support.programs import LoggerProcess

from protocol.record import Kind, parse_sequence
from protocol.recording_reader import RecordingReader
from protocol.segment import list_segments
from protocol.stream import Stream

pytestmark = pytest.mark.system

DEADLINE_SECONDS = 60.0


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[LoggerProcess]:
    logger = LoggerProcess(tmp_path)
    logger.start()
    yield logger
    if logger.process is not None and logger.process.poll() is None:
        logger.kill()


def process_of(logger: LoggerProcess) -> "subprocess.Popen[bytes]":
    assert logger.process is not None
    return logger.process


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(what: str, condition: "threading.Event | object", holds: bool = True) -> None:
    raise NotImplementedError


def read_journal(logger: LoggerProcess, stream: Stream) -> list[int]:
    """Return every sequence number in the journal, as a reader gives them; nothing may be damaged or missing."""
    reader = RecordingReader(logger.recordings / stream.run / stream.folder_name)
    found = []
    while payloads := reader.read_payloads():
        found += [parse_sequence(payload)[1] for payload in payloads]
    reader.close()
    assert not reader.holes
    return found
