"""A disk under the logger that kills it at a chosen call, or notes everything, so that a power loss can be staged.

A program: ``python disk_shim.py PLAN ARGUMENTS`` runs ``python -m logger_service ARGUMENTS`` on such a disk; PLAN is a
:class:`Plan` in JSON. A module: :func:`install` puts the shim in front of this process's own calls.

Notes are written after the call they tell of. A call that a kill separates from its note was at no time durable, so
that a disk which never did it is what a power loss may leave.
"""

import base64
import errno
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
# The calls at which a logger can be killed: all that change something, or make it durable.
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


@dataclass(frozen=True)
class Plan:
    """What befalls the process. Only calls on files below ``root`` count, from 1 on.

    ``kill_at`` 0: no kill. ``torn`` writes half and dies. ``notes``: where operations are noted, "" for nowhere.
    ``lying_sync`` leaves out the notes of what was made durable; ``failing_syncs`` fail, counted from 1 on.
    ``clock_seconds`` is added to the wall clock.
    """

    root: str
    kill_at: int = 0
    moment: Moment = "before"
    notes: str = ""
    lying_sync: bool = False
    failing_syncs: tuple[int, ...] = ()
    clock_seconds: int = 0
    project: bool = True

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs the logger so."""
        return [sys.executable, __file__, json.dumps(asdict(self)), *arguments]


class DiskShim:
    """Stands before the calls of ``os``; ``calls`` counts those that could have been the last."""

    def __init__(self, plan: Plan) -> None:
        self.calls = self._syncs = 0
        self._plan = plan
        self._root = os.path.realpath(plan.root)
        self._real = {name: getattr(os, name) for name in (*CALLS, "open")}
        self._notes = -1
        if plan.notes:
            self._notes = self._real["open"](plan.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        """Do one call, and what the plan says about it."""
        target = arguments[0]
        known = (isinstance(target, int) and target != self._notes) or isinstance(target, str | os.PathLike)
        if not known or not self._below(self._path(target)):
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
            result = self._real[name](*arguments, **keywords)
            self._note(name, arguments, result, before)
        finally:
            if fatal:
                self._die()
        return result

    def _fail(self, name: str, target: Any) -> None:
        """Raise OSError where the plan says so: what was to be made durable is dropped, as a kernel drops it."""
        self._syncs += name == "fdatasync"
        if name == "fdatasync" and self._syncs in self._plan.failing_syncs:
            if self._notes >= 0:
                self._write_note(["failed sync", os.fstat(target).st_ino])
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _is_fatal(self, name: str) -> bool:
        self.calls += name in CALLS
        return name in CALLS and self.calls == self._plan.kill_at

    def _die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def _before(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Return what the call will have changed beyond finding out."""
        if self._notes >= 0 and name == "open":
            return os.path.lexists(arguments[0])
        return None

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
        self._real["write"](self._notes, json.dumps(note).encode() + b"\n")

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


def install(plan: Plan) -> DiskShim:
    """Put a shim in front of this process's calls, for good."""
    shim = DiskShim(plan)

    def in_front_of(name: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: shim.call(name, *arguments, **keywords)

    for name in (*CALLS, "open"):
        setattr(os, name, in_front_of(name))
    if plan.clock_seconds:
        real_clock = time.time_ns
        time.time_ns = lambda: real_clock() + plan.clock_seconds * 10**9
    return shim


def main() -> int:
    """Run the logger on such a disk."""
    plan = Plan(**json.loads(sys.argv[1]))
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    install(plan)
    from logger_service import __main__, service  # noqa: PLC0415 - after the shim is in place

    if not plan.project:
        for method in ("supervise", "finish", "kill"):
            setattr(service.ProjectionProcess, method, lambda *_: True)
    return __main__.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
