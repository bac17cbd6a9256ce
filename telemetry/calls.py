"""What surrounds a call of telemetry: its time is measured, and its errors become faults."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from time import perf_counter_ns
from typing import Any, Final, Protocol, TypeVar, cast

import numpy as np

from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.names import check_step
from tensorboard_sidecar.telemetry.values.arrays import Note
from tensorboard_sidecar.telemetry.values.fit import Cut
from tensorboard_sidecar.telemetry.values.parameters import plain_parameters
from tensorboard_sidecar.telemetry.values.python_values import whole
from tensorboard_sidecar.telemetry.values.tags import distinct_tag, shown_tag

T = TypeVar("T")
_log: Final = logging.getLogger("tensorboard_sidecar.telemetry")


class BadValue(ValueError):
    """One bad value among the values of a call; the message names its tag, ``__cause__`` is the original error."""


class Faults:
    """Counts faults in ``total`` and logs the first of each kind; with ``strict`` it raises each fault instead.

    A value that is kept, but shown in another form than the user gave, is no fault: it is logged once. ``quiet``: the
    telemetry is not enabled, and nothing is a fault.
    """

    def __init__(self, *, strict: bool, quiet: bool = False) -> None:
        self.strict, self.quiet = strict, quiet
        self.total = 0
        self._logged: set[tuple[str, object]] = set()

    def note(self, call: str, error: Exception) -> None:
        """Count a fault and log it; when strict, raise ``error``.

        The log has one line for each method and type of error, for cuts one for each method and part.
        """
        if self.quiet:
            return
        self.total += 1
        if self.strict:
            raise error
        kind: object = type(error.__cause__ if isinstance(error, BadValue) else error)
        if isinstance(error, Cut):
            kind = error.part
        if (call, kind) not in self._logged:
            self._logged.add((call, kind))
            _log.warning("%s: %s: %.500s (logged once; training goes on)", call, type(error).__name__, error)

    @contextmanager
    def noting(self, call: str) -> Iterator[Note]:
        """Yield a function that takes errors about values that are kept, but not as given; note them after the block.

        The block keeps the record first, so that ``strict`` raises about a record that is kept.
        """
        errors: list[Exception] = []
        yield errors.append
        for error in errors:
            self.note(call, error)

    def tell(self, call: str, subject: str, change: str) -> None:
        """Log that a value is shown in another form, once for each method and subject."""
        if not self.quiet and (call, subject) not in self._logged:
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
                shown = self.shown_tag(call, tag)
                good[distinct_tag(shown, good) if shown in good else shown] = convert(value)
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

    def log_total(self, run: str) -> None:
        """Log the number of faults at the end of a run: the first message of a kind may have scrolled away by then."""
        if self.total and not self.strict:
            _log.warning(
                "run %s: %d calls or values were not kept as given; warnings above name the first of each kind",
                run,
                self.total,
            )


_STEPS_KEPT: Final = 1024


class StepCost:
    """Sums the time of all calls of a step and keeps the sums of the last 1,024 steps.

    ``step`` is the step whose calls are being summed, ``highest_step`` the highest so far; -1 before the first call.
    """

    def __init__(self) -> None:
        self.step = self.highest_step = -1
        self.ns = 0
        self._finished_ns: deque[int] = deque(maxlen=_STEPS_KEPT)

    def add(self, step: int, ns: int) -> None:
        """Add a call of ``ns`` nanoseconds to the sum of ``step``."""
        if step != self.step:
            if self.ns:
                self._finished_ns.append(self.ns)
            self.step, self.ns = step, 0
            if step > self.highest_step:  # noqa: PLR1730 - a call of max takes as long as the rest of this method
                self.highest_step = step
        self.ns += ns

    def percentile_us(self, percent: float) -> float:
        """Return a percentile (nearest rank) over the finished steps, in microseconds; 0.0 without a finished step."""
        ordered = sorted(self._finished_ns)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] / 1000 if ordered else 0.0

    def health(self) -> dict[str, float]:
        """Return the median and the 99th percentile in microseconds, by tag."""
        return {f"telemetry/step_cost_us_p{percent}": self.percentile_us(percent) for percent in (50, 99)}


_Method = TypeVar("_Method", bound=Callable[..., None])


class Facade(Protocol):
    """An object whose methods are wrapped; the first argument of each method is the step."""

    faults: Faults
    cost: StepCost
    check_open: Callable[[], None]
    """Raises RuntimeError after the close and in a forked child, where torch may hang in the call's computations."""


def _whole_step(step: Any) -> int:
    """Return a step as an int, also 7.0. Raises TypeError for a fraction, NaN, and a tensor on a device."""
    if isinstance(step, float | np.floating) and step.is_integer():
        return int(step)
    return whole("step", step)


def telemetry_call(method: _Method) -> _Method:
    """Wrap a method: make its step an int that is in range, add its time to ``cost``, note its errors in ``faults``."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:  # ``self`` is in ``args``: a named parameter costs a second tuple
        started = perf_counter_ns()
        self: Facade = args[0]
        try:
            self.check_open()
            if len(args) == 1:
                args = (self, kwargs.pop("step", None))
            if type(args[1]) is not int:  # a tensor: the loop may increment it in place, or it lies on a device
                args = (self, _whole_step(args[1]), *args[2:])
            check_step(args[1])
            method(*args, **kwargs)
            self.cost.add(args[1], perf_counter_ns() - started)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            self.faults.note(f"telemetry.{method.__name__}", error)

    return cast("_Method", call)
