"""The findings that wait for a hook, and when the next call is due. Pure: no thread, time is passed in.

The newest state of a finding takes the place of a state that waits. At the end of the room the oldest is dropped: a
hook that hangs costs findings, and neither memory nor the logger's time.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeAlias

from tensorboard_sidecar.logger_service import limits
from tensorboard_sidecar.logger_service.counters import Counters, counter

_MINUTE_SECONDS: Final = 60.0

Key: TypeAlias = tuple[bytes, str, str]
"""A finding of a stream: the id of the stream, the rule, the tag."""


class Letter(NamedTuple):
    """The state of a finding: ``text`` for the log, ``body`` for the hook."""

    key: Key
    text: str
    body: bytes


@dataclass(slots=True)
class HookCounts(Counters):
    """Counters of a hook since the start of the logger."""

    delivered: int = counter("findings that a hook has taken")
    failed: int = counter("calls of a hook that failed")
    dropped: int = counter("states of findings that a hook was not told: a newer state came, or too many, or it failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class HookLimits:
    """How often a hook is called, and how much waits for it.

    A state of a finding is tried ``attempts_max`` times, with pauses that begin with ``pause_seconds`` and double.
    """

    calls_a_minute: int = limits.HOOK_CALLS_A_MINUTE_MAX
    queue_max: int = limits.HOOK_QUEUE_MAX
    attempts_max: int = limits.HOOK_ATTEMPTS_MAX
    pause_seconds: float = 2.0


@dataclass(slots=True)
class Waiting:
    """A letter that waits: its failed attempts, and the earliest time of the next attempt."""

    letter: Letter
    attempts: int = 0
    due_at_seconds: float = float("-inf")


class LetterQueue:
    """The letters of one hook. ``closing``: deliver what waits now, each once, without pauses."""

    def __init__(self, bounds: HookLimits) -> None:
        self.counts = HookCounts()
        self.closing = False
        self._bounds = bounds
        self._waiting: dict[Key, Waiting] = {}
        self._begun_at_seconds: deque[float] = deque(maxlen=bounds.calls_a_minute)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, letter: Letter) -> Letter | None:
        """Add a letter; return a letter that had to go because too many wait."""
        if self._waiting.pop(letter.key, None) is not None:
            self.counts.dropped += 1
        self._waiting[letter.key] = Waiting(letter)
        if len(self._waiting) <= self._bounds.queue_max:
            return None
        self.counts.dropped += 1
        return self._waiting.pop(next(iter(self._waiting))).letter

    def due_in_seconds(self, now_seconds: float) -> float:
        """Return the time until the next letter may be taken: 0 or less means now, infinity that none waits."""
        if self.closing and self._waiting:
            return 0.0
        due_at_seconds = min((waiting.due_at_seconds for waiting in self._waiting.values()), default=float("inf"))
        if len(self._begun_at_seconds) == self._bounds.calls_a_minute:
            due_at_seconds = max(due_at_seconds, self._begun_at_seconds[0] + _MINUTE_SECONDS)
        return due_at_seconds - now_seconds

    def take(self, now_seconds: float) -> Waiting | None:
        """Take the oldest letter that is due, with its attempts so far; None if none is due."""
        if self.due_in_seconds(now_seconds) > 0:
            return None
        due = (key for key, one in self._waiting.items() if self.closing or one.due_at_seconds <= now_seconds)
        self._begun_at_seconds.append(now_seconds)
        return self._waiting.pop(next(due))

    def failed(self, waiting: Waiting, now_seconds: float, *, retry: bool) -> bool:
        """Note a failed call; return whether the letter is tried again. A newer state takes its place."""
        self.counts.failed += 1
        attempts = waiting.attempts + 1
        key, bounds = waiting.letter.key, self._bounds
        if not retry or self.closing or attempts >= bounds.attempts_max or key in self._waiting:
            self.counts.dropped += 1
            return False
        due_at_seconds = now_seconds + bounds.pause_seconds * 2 ** (attempts - 1)
        again = replace(waiting, attempts=attempts, due_at_seconds=due_at_seconds)
        self._waiting = {key: again, **self._waiting}  # the oldest: the first to go when too many wait
        return True
