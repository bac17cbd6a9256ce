"""What went wrong in telemetry: counted, said once, and kept away from the training loop."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from tensorboard_sidecar.protocol.names import check_tag

T = TypeVar("T")
_logger: Final = logging.getLogger("tensorboard_sidecar.telemetry")


class BadValue(ValueError):
    """One value of several that cannot be kept; the message names its tag."""


class Faults:
    """Counts faults in ``total``; a strict one raises them."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.total = 0
        self._said: set[tuple[str, type[BaseException | None]]] = set()

    def __repr__(self) -> str:
        return f"<Faults {self.total}>"

    def note(self, call: str, error: Exception) -> None:
        """Count a fault and say it, once for each call and kind of error; raise it when strict."""
        self.total += 1
        if self.strict:
            raise error
        kind = type(error.__cause__ if isinstance(error, BadValue) else error)
        if (call, kind) not in self._said:
            self._said.add((call, kind))
            _logger.warning("%s: %s: %.500s (said once; training goes on)", call, type(error).__name__, error)

    def sift(self, call: str, values: Mapping[str, Any], convert: Callable[[Any], T]) -> dict[str, T]:
        """Return ``values`` converted; one that cannot be, or whose tag cannot be shown, is a fault of its own.

        The others are none the worse for it. Raises TypeError for values that have no tags.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a {type(values).__name__}; expected values by tag, like {{'loss': 0.5}}")
        good: dict[str, T] = {}
        for tag, value in values.items():
            try:
                good[check_tag(tag)] = convert(value)
            except Exception as error:  # noqa: BLE001 - whatever it was, the others are kept
                bad = BadValue(f"{tag!r:.80} is not kept: {error}")
                bad.__cause__ = error
                self.note(call, bad)
        return good

    def say_total(self, run: str) -> None:
        """Say, when a run ends, how much of it was not kept: what was said once may have scrolled away."""
        if self.total and not self.strict:
            _logger.warning(
                "run %s: %d calls or values were not kept; of each kind one is named above", run, self.total
            )
