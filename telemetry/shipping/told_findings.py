"""What the logger, or the helper, says is wrong with this run: known to the loop, and told to its callbacks."""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from tensorboard_sidecar.protocol.finding import Finding, by_gravity
from tensorboard_sidecar.protocol.limits import FINDINGS_KNOWN_MAX

OnFinding: TypeAlias = Callable[[Finding], object]
"""A callback of the user: takes a finding that has opened or cleared."""

# How long a close waits for callbacks that run or wait.
_CLOSE_SECONDS: Final = 1.0
_Key: TypeAlias = tuple[str, str]
_log = logging.getLogger(__name__)


class ToldFindings:
    """The newest state of each finding of one stream; ``known`` has open findings first, the gravest first.

    The sender thread calls :meth:`take`; any thread may read ``known``. At FINDINGS_KNOWN_MAX findings, a new finding
    takes the place of a cleared one, and is left out if there is none. ``note`` takes the errors of callbacks.
    """

    def __init__(self, note: Callable[[Exception], None] = lambda _: None) -> None:
        self.known: tuple[Finding, ...] = ()
        self._by_key: dict[_Key, Finding] = {}
        self._calls = FindingCalls(note)

    def call(self, callback: OnFinding) -> None:
        """Call ``callback`` from now on with each finding that opens or clears, on a thread of its own."""
        self._calls.callbacks += (callback,)

    def take(self, findings: Iterable[Finding]) -> list[Finding]:
        """Take findings from the logger or the helper, which tells them again after each new connection.

        Returns those that have opened or cleared since they were told before.
        """
        changed = []
        for finding in findings:
            key = finding.rule, finding.tag
            before = self._by_key.get(key)
            if before is None and not self._has_room():
                continue
            self._by_key[key] = finding
            if before is None or _is_news(before, finding):
                changed.append(finding)
                self._calls.add(finding)
        self.known = tuple(sorted(self._by_key.values(), key=by_gravity))
        return changed

    def close(self) -> None:
        """End the calls: waits at most a second for those that are due."""
        self._calls.close()

    def _has_room(self) -> bool:
        if len(self._by_key) >= FINDINGS_KNOWN_MAX:
            cleared = next((key for key, known in self._by_key.items() if known.state == "cleared"), None)
            if cleared is None:
                return False
            del self._by_key[cleared]
        return True


def _is_news(before: Finding, now: Finding) -> bool:
    """Tell whether a finding has opened or cleared since, perhaps both within the moment between two tellings."""
    return now.state != before.state or (now.state == "cleared" and now.count > before.count)


class FindingCalls:
    """Calls ``callbacks`` on a thread that starts with the first finding.

    The newest state of a finding replaces a state that waits. At FINDINGS_KNOWN_MAX waiting findings, the oldest is
    left out. Errors of the callbacks, findings left out, and a thread that cannot start go to ``note``.
    """

    def __init__(self, note: Callable[[Exception], None]) -> None:
        self.callbacks: tuple[OnFinding, ...] = ()
        self._note = note
        self._waiting: dict[_Key, Finding] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, finding: Finding) -> None:
        """Have the callbacks called with a finding; does not wait for them."""
        if not self.callbacks:
            return
        with self._changed:
            if self._closed:
                return
            self._waiting.pop((finding.rule, finding.tag), None)
            self._waiting[finding.rule, finding.tag] = finding
            left_out = len(self._waiting) > FINDINGS_KNOWN_MAX and self._waiting.pop(next(iter(self._waiting)))
            self._changed.notify()
        if left_out:
            self._note_safely(RuntimeError(f"a callback is slow: {left_out!s:.200} is left out"))
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="telemetry-findings", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system has no thread left, or the interpreter ends
                self._note_safely(error)
            else:
                self._thread = thread

    def close(self) -> None:
        """Make the calls that wait, and end the thread; wait at most _CLOSE_SECONDS. A callback may call this."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (finding := self._next()) is not None:
            for callback in self.callbacks:
                try:
                    callback(finding)
                except Exception as error:  # noqa: BLE001 - a callback ends neither training nor other callbacks
                    self._note_safely(error)
                except SystemExit:
                    self._note_safely(RuntimeError("sys.exit() in on_finding ends nothing: set a flag for the loop"))

    def _next(self) -> Finding | None:
        """Wait for a finding; return None after the close."""
        with self._changed:
            while not (self._waiting or self._closed):
                self._changed.wait()
            return self._waiting.pop(next(iter(self._waiting))) if self._waiting else None

    def _note_safely(self, error: Exception) -> None:
        try:
            self._note(error)
        except Exception:  # noqa: BLE001 - a strict telemetry raises faults, and no loop is here to take them
            _log.error("on_finding failed", exc_info=error)
