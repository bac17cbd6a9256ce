"""What ``status`` says of the helpers of this user: their folders, how far behind they are, and their memory."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.helper.messages import MessageBuffer, Report, StatusRequest, pack_message
from tensorboard_sidecar.protocol.helper.place import FOLDERS_NAME, LOCK_NAME, SOCKET_NAME, helper_root, read_note
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.protocol.storage.durable import opened

_ANSWER_SECONDS: Final = 3.0
_RECEIVE_SIZE_BYTES: Final = 2**16


def describe_helpers() -> Iterator[str]:
    """Yield a line for each running helper and each folder that it shows, and for folders that wait for a helper."""
    with suppress(OSError):
        for place in sorted(helper_root().iterdir()):
            if _runs(place):
                yield from _describe(place)
            else:
                for folder in noted_folders(place):
                    yield printable(f"{folder}: event files may lack records; tensorboard-sidecar replay {folder}")


def noted_folders(place: Path) -> list[Path]:
    """Return the folders that a helper has not shown completely."""
    found: list[Path] = []
    with suppress(OSError):
        for note in sorted((place / FOLDERS_NAME).iterdir()):
            with suppress(OSError):
                found += filter(None, [read_note(note)])
    return found


def ask_helper(place: Path, seconds: float = _ANSWER_SECONDS) -> Report:
    """Return the report of the helper in ``place``. Raises OSError (TimeoutError after ``seconds``), Malformed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(seconds)
        connection.connect(str(place / SOCKET_NAME))
        connection.sendall(pack_message(StatusRequest()))
        buffer = MessageBuffer()
        while data := connection.recv(_RECEIVE_SIZE_BYTES):
            for message in buffer.add(data):
                if isinstance(message, Report):
                    return message
    raise ConnectionResetError("the helper ended")


def _describe(place: Path) -> Iterator[str]:
    try:
        report = ask_helper(place)
    except (OSError, Malformed) as error:
        yield f"helper in {place}: no answer: {error}"
        return
    yield f"helper: pid {report.process_id}, {report.memory_bytes / 2**20:.0f} MiB, {len(report.folders)} folders"
    for folder in report.folders:
        path = os.fsdecode(folder.folder)
        lag = f"event files are {folder.lag_seconds:.0f} s behind" if folder.lag_seconds else "event files are complete"
        trouble = f"; {folder.trouble}" if folder.trouble else ""
        yield printable(f"  {path}: {folder.writers} writers, {lag}{trouble}")


def _runs(place: Path) -> bool:
    with suppress(OSError), opened(place / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
