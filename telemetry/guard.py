"""The wrapper of every public call of ``Telemetry``: measures the call's time and turns its errors into faults."""

from collections.abc import Callable
from functools import wraps
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar, cast

from tensorboard_sidecar.telemetry.faults import Faults
from tensorboard_sidecar.telemetry.step_cost import StepCost
from tensorboard_sidecar.telemetry.values.python_values import whole

_Method = TypeVar("_Method", bound=Callable[..., None])


class Facade(Protocol):
    """An object whose methods are wrapped; the first argument of each method is the step."""

    faults: Faults
    cost: StepCost
    check_open: Callable[[], None]
    """Raises RuntimeError after the close and in a forked child, where torch may hang in the call's computations."""


def telemetry_call(method: _Method) -> _Method:
    """Wrap a method: convert its step to an int, add its time to ``cost``, note its errors in ``faults``."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:  # ``self`` is in ``args``: a named parameter costs a second tuple
        started = perf_counter_ns()
        self: Facade = args[0]
        try:
            self.check_open()
            if len(args) == 1:
                args = (self, kwargs.pop("step", None))
            if type(args[1]) is not int:  # a tensor: the loop may increment it in place, or it lies on a device
                args = (self, whole("step", args[1]), *args[2:])
            method(*args, **kwargs)
            self.cost.add(args[1], perf_counter_ns() - started)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            self.faults.note(f"telemetry.{method.__name__}", error)

    return cast("_Method", call)
