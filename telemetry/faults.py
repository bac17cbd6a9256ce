"""Faults: errors of telemetry, which are logged once for each kind and counted, and never reach the training loop."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from tensorboard_sidecar.protocol.names import check_tag

T = TypeVar("T")
_log: Final = logging.getLogger("tensorboard_sidecar.telemetry")


class BadValue(ValueError):
    """One bad value among the values of a call; the message names its tag, ``__cause__`` is the original error."""


class Faults:
    """Counts faults in ``total`` and logs the first of each kind; with ``strict`` it raises each fault instead."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.total = 0
        self._logged: set[tuple[str, type[BaseException | None]]] = set()

    def __repr__(self) -> str:
        return f"<Faults {self.total}>"

    def note(self, call: str, error: Exception) -> None:
        """Count a fault and log it, once for each method and type of error; when strict, raise ``error``."""
        self.total += 1
        if self.strict:
            raise error
        kind = type(error.__cause__ if isinstance(error, BadValue) else error)
        if (call, kind) not in self._logged:
            self._logged.add((call, kind))
            _log.warning("%s: %s: %.500s (logged once; training goes on)", call, type(error).__name__, error)

    def note_each(self, call: str, errors: Iterable[Exception]) -> None:
        """Note errors about values that are kept, but not as given."""
        for error in errors:
            self.note(call, error)

    def convert_each(self, call: str, values: Mapping[str, Any], convert: Callable[[Any], T]) -> dict[str, T]:
        """Return the values converted, without those whose tag is invalid or whose conversion fails.

        Each value left out is a fault. Raises TypeError when ``values`` is no mapping.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a {type(values).__name__}; expected values by tag, like {{'loss': 0.5}}")
        good: dict[str, T] = {}
        for tag, value in values.items():
            try:
                good[check_tag(tag)] = convert(value)
            except Exception as error:  # noqa: BLE001 - the other values are kept, whatever the error
                bad = BadValue(f"{tag!r:.80} is not kept: {error}")
                bad.__cause__ = error
                self.note(call, bad)
        return good

    def log_total(self, run: str) -> None:
        """Log the number of faults at the end of a run: the first message of a kind may have scrolled away by then."""
        if self.total and not self.strict:
            _log.warning(
                "run %s: %d calls or values were not kept as given; warnings above name the first of each kind",
                run,
                self.total,
            )
