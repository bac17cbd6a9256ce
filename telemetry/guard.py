"""What every call of the facade is wrapped in, so that it keeps the contract: measured, and raising nothing."""

from collections.abc import Callable
from functools import wraps
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar, cast

from tensorboard_sidecar.telemetry.faults import Faults
from tensorboard_sidecar.telemetry.step_cost import StepCost
from tensorboard_sidecar.telemetry.values.python_values import whole

_Method = TypeVar("_Method", bound=Callable[..., None])


class Facade(Protocol):
    """Whose calls are wrapped; their first argument is the step."""

    faults: Faults
    cost: StepCost
    check_open: Callable[[], None]
    """Raises RuntimeError when nothing is kept any more: in a forked child, torch may hang on what a call computes."""


def telemetry_call(method: _Method) -> _Method:
    """Account for what a call costs, give it its step as an int, and note what it raises instead of raising it."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:  # by name, ``self`` would be taken off and put in front again
        started = perf_counter_ns()
        self: Facade = args[0]
        try:
            self.check_open()
            if len(args) == 1:
                args = (self, kwargs.pop("step", None))
            if type(args[1]) is not int:  # a tensor may be counted up in place, or lie on a device
                args = (self, whole("step", args[1]), *args[2:])
            method(*args, **kwargs)
            self.cost.add(args[1], perf_counter_ns() - started)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end training
            self.faults.note(f"telemetry.{method.__name__}", error)

    return cast("_Method", call)
