"""Faults: errors of telemetry, which are logged once for each kind and counted, and never reach the training loop."""

import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.telemetry.values.checked_tags import distinct_tag, shown_tag
from tensorboard_sidecar.telemetry.values.parameters import plain_parameters

T = TypeVar("T")
_log: Final = logging.getLogger("tensorboard_sidecar.telemetry")


class BadValue(ValueError):
    """One bad value among the values of a call; the message names its tag, ``__cause__`` is the original error."""


class Faults:
    """Counts faults in ``total`` and logs the first of each kind; with ``strict`` it raises each fault instead.

    A value that is kept, but shown in another form than the user gave, is no fault: it is logged once.
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.total = 0
        self._logged: set[tuple[str, type[BaseException | None] | str]] = set()

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

    def tell(self, call: str, subject: str, change: str) -> None:
        """Log that a value is shown in another form, once for each method and subject."""
        if (call, subject) not in self._logged:
            self._logged.add((call, subject))
            _log.warning("%s: %.500s (logged once)", call, change)

    def shown_tag(self, call: str, tag: object) -> str:
        """Return a tag that TensorBoard shows, and tell the change. Raises Malformed for a tag that is no text."""
        shown = shown_tag(tag)
        if not isinstance(tag, str) or shown != tag:
            self.tell(call, "tag", f"tag {tag!r:.200} is shown as {shown!r:.200}")
        return shown

    def convert_each(self, call: str, values: Mapping[str, Any], convert: Callable[[Any], T]) -> dict[str, T]:
        """Return the values converted, by shown tag, without those whose tag is no text or whose conversion fails.

        Each value left out is a fault. Tags that would be shown alike get a number. Raises TypeError when ``values`` is
        no mapping.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"a {type(values).__name__}; expected values by tag, like {{'loss': 0.5}}")
        good: dict[str, T] = {}
        for tag, value in values.items():
            try:
                good[self._new_tag(call, tag, good)] = convert(value)
            except Exception as error:  # noqa: BLE001 - the other values are kept, whatever the error
                name = repr(tag) if isinstance(tag, str | int | float | None) else f"a {type(tag).__name__} as tag"
                bad = BadValue(f"{name:.80} is not kept: {error}")
                bad.__cause__ = error
                self.note(call, bad)
        return good

    def parameters(self, call: str, settings: object) -> dict[str, ParameterValue]:
        """Return settings as parameters by name; what is left out is one fault. Raises TypeError for other objects."""
        found = plain_parameters(settings)
        if found.changed:
            self.tell(call, "parameters", f"parameters are shown in another form: {found.changed}")
        if found.left_out:
            self.note(call, BadValue(f"parameters are left out: {found.left_out}"))
        return found.values

    def _new_tag(self, call: str, tag: object, taken: Collection[str]) -> str:
        return distinct_tag(self.shown_tag(call, tag), taken)

    def log_total(self, run: str) -> None:
        """Log the number of faults at the end of a run: the first message of a kind may have scrolled away by then."""
        if self.total and not self.strict:
            _log.warning(
                "run %s: %d calls or values were not kept; warnings above name the first of each kind", run, self.total
            )
