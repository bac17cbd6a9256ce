"""Every place where CPython can run a signal handler or a finalizer in the middle of other code, one after the other.

Handlers run at the start of a function, behind a call and at a jump backwards; finalizers where an object is made that
the collector knows. Between other bytecodes nothing can come. Here an opcode trace stands for both.
"""

import dis
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, Final

from support.source import PACKAGE, ROOT

_BEHIND: Final = {"RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD"}
_MAKING: Final = ("BUILD_", "LIST_", "MAKE_", "LOAD_CLOSURE", "UNPACK_", "FORMAT_")
# What else there is below is pure, and some of it runs only once, as its answers are remembered.
_PACKAGE: Final = ROOT / "src" / PACKAGE  # where modules are imported from; the rooms are links in it
_OURS: Final = (
    str(_PACKAGE / "telemetry"),
    str(_PACKAGE / "protocol" / "outbox" / "owner_lock.py"),
    str(_PACKAGE / "protocol" / "scalar_template.py"),
)


class Boundaries:
    """Runs ``work`` and, at the ``number``-th boundary inside of the trainer's code, from 1, ``act`` once.

    ``reached`` tells whether there were as many. Other files than the trainer's, ``within``, can be named.
    """

    def __init__(self, number: int, act: Callable[[], object], *, within: tuple[str, ...] = _OURS) -> None:
        self.reached = False
        self._within = within
        self._left, self._act = number, act
        self._last: dict[FrameType, str] = {}

    def run(self, work: Callable[[], object]) -> None:
        """Do the work; what ``act`` raises goes through it as from a handler."""
        before = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # Python 3.12 traces opcodes only if a frame asks before ``settrace``
        sys.settrace(self._enter)
        try:
            work()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Callable[..., Any] | None:
        if self.reached or not frame.f_code.co_filename.startswith(self._within):
            return None
        frame.f_trace = self._look  # Python 3.13 turns opcodes on only for a frame that has its function already
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._look

    def _look(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any] | None:
        if event != "opcode" or self.reached:
            return self._look
        name = _operation(frame.f_code, frame.f_lasti)
        behind, self._last[frame] = self._last.get(frame), name
        if behind in _BEHIND or name.startswith(_MAKING):
            self._left -= 1
            if not self._left:
                self.reached = True
                self._act()
        return self._look


def _operation(code: CodeType, offset: int) -> str:
    return dis.opname[code.co_code[offset]]
