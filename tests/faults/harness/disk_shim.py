"""A disk under a process that kills it at a chosen call, fails, fills up, or notes everything for a power loss.

:func:`install` puts the shim in front of this process's own calls, for good. ``shimmed_logger_program.py`` does that,
and is a logger then; a trainer of these tests does it when its plan says so.

Notes are written after the call they tell of. A call that a kill separates from its note was at no time durable, so
that a disk which never did it is what a power loss may leave.
"""

import base64
import builtins
import errno
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

Moment = Literal["before", "torn", "after"]
MOMENTS: Final[tuple[Moment, ...]] = ("before", "torn", "after")
# The calls at which a process can be killed: all that change something, or make it durable.
CALLS: Final = (
    "write",
    "pwrite",
    "fdatasync",
    "fsync",
    "replace",
    "rename",
    "mkdir",
    "unlink",
    "rmdir",
    "truncate",
    "ftruncate",
)
# Those that a sick disk refuses.
_REFUSED: Final = ("write", "mkdir", "open", "replace", "rename", "fdatasync")


@dataclass(frozen=True)
class Plan:
    """What befalls the process. Only calls on files below ``root`` count, from 1 on.

    ``kill_at`` 0: no kill. ``torn`` writes half and dies. ``notes``: where operations are noted, "" for nowhere.
    ``lying_sync`` leaves out the notes of what was made durable. Calls of the name ``failing_call`` fail with ``error``
    where their own number, from 1 on, is in ``failing_numbers``. ``hang_at_sync``: this fdatasync, from 1 on, never
    comes back. While the file ``sick_while`` is there, nothing new is taken, with ``error``; "ENOSPC" takes half of a
    write now and then, as a disk does that is almost full. ``clock_seconds`` is added to the wall clock.

    For a logger: without ``project`` there are no event files; ``early_acks`` is a bug, an acknowledgement that leaves
    before the sync.
    """

    root: str
    kill_at: int = 0
    moment: Moment = "before"
    notes: str = ""
    lying_sync: bool = False
    failing_call: str = "fdatasync"
    failing_numbers: tuple[int, ...] = ()
    error: str = "EIO"
    hang_at_sync: int = 0
    sick_while: str = ""
    clock_seconds: int = 0
    project: bool = True
    early_acks: bool = False

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs a logger so."""
        program = Path(__file__).with_name("shimmed_logger_program.py")
        return [sys.executable, str(program), json.dumps(asdict(self)), *arguments]


class DiskShim:
    """Stands before the calls of ``os``; ``calls`` counts those that could have been the last."""

    def __init__(self, plan: Plan) -> None:
        self.calls = self._failing_calls = self._syncs = self._writes = 0
        self._plan = plan
        self._root = os.path.realpath(plan.root)
        self._real = {name: getattr(os, name) for name in (*CALLS, "open")}
        self._notes = -1
        if plan.notes:
            self._notes = self._real["open"](plan.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Do one call, and what the plan says about it."""
        target = arguments[0]
        if not self.covers(target):
            return self._real[name](*arguments, **keywords)
        before = self._before(name, arguments)
        fatal = self._is_fatal(name)
        if fatal and self._plan.moment != "after":
            if name == "write" and self._plan.moment == "torn":
                half = memoryview(arguments[1])[: len(arguments[1]) // 2]
                self._note(name, (target, half), self._real["write"](target, half), before)
            self._die()
        try:
            self._fail(name, target)
            arguments = self._sicken(name, arguments, before)
            result = self._real[name](*arguments, **keywords)
            self._note(name, arguments, result, before)
        finally:
            if fatal:
                self._die()
        return result

    def covers(self, target: Any) -> bool:
        """Tell whether a path, or an open file, lies below the root."""
        known = (isinstance(target, int) and target != self._notes) or isinstance(target, str | os.PathLike)
        return known and self._below(self._path(target))

    def _fail(self, name: str, target: Any) -> None:
        """Raise OSError where the plan says so: what was to be made durable is dropped, as a kernel drops it."""
        self._syncs += name == "fdatasync"
        self._failing_calls += name == self._plan.failing_call
        if name == "fdatasync" and self._syncs == self._plan.hang_at_sync:
            self._write_note(["hangs"])
            time.sleep(3600)
        if name == self._plan.failing_call and self._failing_calls in self._plan.failing_numbers:
            if name == "fdatasync":
                self._write_note(["failed sync", os.fstat(target).st_ino])
            raise _error(self._plan.error)

    def _sicken(self, name: str, arguments: tuple[Any, ...], before: Any) -> tuple[Any, ...]:
        """Return what a sick disk takes of a call: half of every other write at most; else raise OSError."""
        plan = self._plan
        if name not in _REFUSED or not plan.sick_while or not Path(plan.sick_while).exists():
            return arguments
        if name == "open" and (before or not arguments[1] & os.O_CREAT):
            return arguments
        if plan.error == "ENOSPC":
            if name not in ("write", "mkdir", "open"):
                return arguments
            self._writes += name == "write"
            if name == "write" and self._writes % 2 and len(arguments[1]) > 1:
                return arguments[0], memoryview(arguments[1])[: len(arguments[1]) // 2]
        raise _error(plan.error)

    def _is_fatal(self, name: str) -> bool:
        self.calls += name in CALLS
        return name in CALLS and self.calls == self._plan.kill_at

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _before(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return what the call will have changed beyond finding out."""
        return name == "open" and os.path.lexists(arguments[0])

    def _path(self, target: Any) -> str:
        if isinstance(target, int):
            try:
                return str(Path(f"/proc/self/fd/{target}").readlink())
            except OSError:
                return ""
        return str(Path.cwd() / target)

    def _below(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + os.sep)

    def _note(self, name: str, arguments: tuple[Any, ...], result: Any, before: Any) -> None:
        if self._notes < 0 or (self._plan.lying_sync and name in ("fdatasync", "fsync")):
            return
        note = self._describe(name, arguments, result, before)
        if note is not None:
            self._write_note(note)

    def _write_note(self, note: list[Any]) -> None:
        """Write what happened, and at which call."""
        if self._notes >= 0:
            self._real["write"](self._notes, json.dumps([self.calls, *note]).encode() + b"\n")

    def _describe(self, name: str, arguments: tuple[Any, ...], result: Any, before: Any) -> list[Any] | None:
        target = arguments[0]
        match name:
            case "open":
                return None if before else ["create", self._path(target), os.fstat(result).st_ino]
            case "write":
                end = os.lseek(target, 0, os.SEEK_CUR)
                data = bytes(memoryview(arguments[1])[:result])
                return ["write", os.fstat(target).st_ino, end - result, base64.b64encode(data).decode()]
            case "pwrite":
                return ["write", os.fstat(target).st_ino, arguments[2], base64.b64encode(arguments[1]).decode()]
            case "fdatasync" | "fsync":
                path = self._path(target)
                return ["sync folder", path] if Path(path).is_dir() else ["sync", os.fstat(target).st_ino]
            case "truncate" | "ftruncate":
                return ["truncate", Path(self._path(target)).stat().st_ino, arguments[1]]
            case "mkdir" | "unlink" | "rmdir":
                return ["mkdir" if name == "mkdir" else "remove", self._path(target)]
            case _:
                return ["rename", self._path(target), self._path(arguments[1])]


class _ShimmedFile(io.FileIO):
    """A file that is written by ``os.write``, where the shim stands, and not by Python's own call."""

    def write(self, data: Any) -> int:
        return os.write(self.fileno(), data)


def install(plan: Plan) -> DiskShim:
    """Put a shim in front of this process's calls, for good."""
    shim = DiskShim(plan)

    def in_front_of(name: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: shim.call(name, *arguments, **keywords)

    for name in (*CALLS, "open"):
        setattr(os, name, in_front_of(name))
    real_open = io.open

    def open_file(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        """Open a file; one that was opened already and is written without an encoding is written through the shim."""
        if isinstance(file, int) and mode == "wb" and shim.covers(file):
            return io.BufferedWriter(_ShimmedFile(file, mode))
        return real_open(file, mode, *arguments, **options)

    io.open = builtins.open = open_file  # type: ignore[assignment]
    if plan.clock_seconds:
        real_ns, real_seconds = time.time_ns, time.time
        time.time_ns = lambda: real_ns() + plan.clock_seconds * 10**9
        time.time = lambda: real_seconds() + plan.clock_seconds
    return shim


def _error(name: str) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number))
