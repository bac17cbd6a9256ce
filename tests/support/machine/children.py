"""Forked children and their exit codes."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Final

from support.machine.waiting import wait_until

DEADLINE_SECONDS: Final = 30.0


def start(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child, which ends by ``os._exit``, with code 1 after an error; return the pid."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # newer Pythons warn about a fork with threads, which is tested here
        child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a child must never go on as a second test session
            traceback.print_exc(file=sys.stderr)
        finally:
            os._exit(code)
    return child


def fork(work: Callable[[], object]) -> int:
    """Run ``work`` in a forked child; return the exit code. Kills a hanging child and raises TimeoutError."""
    return wait_for(start(work))


def wait_for(child: int) -> int:
    """Return a child's exit code, negative for a signal. Kills a hanging child and raises TimeoutError."""
    status: list[int] = []

    def ended() -> bool:
        found, code = os.waitpid(child, os.WNOHANG)
        status[:] = [code] if found else []
        return bool(status)

    try:
        wait_until(ended, seconds=DEADLINE_SECONDS, what="the end of a child")
    except TimeoutError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status[0])
