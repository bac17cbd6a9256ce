"""What every call of the facade is wrapped in, so that it keeps the contract: measured, and raising nothing."""

from collections.abc import Callable
from functools import wraps
from time import perf_counter_ns
from typing import Any, Protocol, TypeVar, cast

from trainer.telemetry.cost import StepCost
from trainer.telemetry.faults import Faults

_Method = TypeVar("_Method", bound=Callable[..., None])


class Facade(Protocol):
    """Whose calls are wrapped; their first argument is the step."""

    faults: Faults
    cost: StepCost
    check_open: Callable[[], None]
    """Raises RuntimeError when nothing is kept any more: in a forked child, torch may hang on what a call computes."""


def telemetry_call(method: _Method) -> _Method:
    """Account for what a call costs, and note what it raises instead of raising it."""

    @wraps(method)
    def call(self: Facade, *args: Any, **kwargs: Any) -> None:
        started = perf_counter_ns()
        try:
            self.check_open()
            method(self, *args, **kwargs)
            self.cost.add(args[0] if args else kwargs["step"], perf_counter_ns() - started)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end training
            self.faults.note(f"telemetry.{method.__name__}", error)

    return cast("_Method", call)
