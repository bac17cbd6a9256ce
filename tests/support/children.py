"""Forked children, and what becomes of them."""

import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Final

from support.waiting import wait_until

DEADLINE_SECONDS: Final = 30.0


def start(work: Callable[[], object]) -> int:
    """Do ``work`` in a forked child that then ends without a word, with exit code 1 when it raised; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # later Pythons warn of forks beside threads: that is tested
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
    """Do ``work`` in a forked child; return its exit code. Raises TimeoutError, and kills the child, when it hangs."""
    return wait_for(start(work))


def wait_for(child: int) -> int:
    """Return a child's exit code, negative when a signal ended it; kill it when it hangs and raise TimeoutError."""
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
