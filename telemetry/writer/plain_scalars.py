"""The short path into ``add_scalar``: a plain call is kept before the method is called."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

_Method = TypeVar("_Method", bound=Callable[..., None])


def keeps_plain_scalars(method: _Method) -> _Method:
    """Wrap ``add_scalar(self, tag, scalar_value, global_step, ...)``: keep plain calls, pass all others to ``method``.

    A plain call has a tag, a value and a step, and nothing else. ``ScalarCalls.keep`` decides whether it can keep the
    call. ``method`` decides the meaning of everything else, wrong arguments included.
    """

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:  # the arguments have no names here: a wrong call reaches ``method``
        if len(args) == 4 and not kwargs:
            writer, tag, value, step = args
        elif len(args) == 3 and len(kwargs) == 1 and "global_step" in kwargs:
            (writer, tag, value), step = args, kwargs["global_step"]
        else:
            method(*args, **kwargs)
            return
        own_time = writer._default_walltime is not None  # noqa: SLF001 - the block of ``use_metadata``
        if own_time or not writer.telemetry.scalar_calls.keep(tag, value, step):
            method(*args, **kwargs)

    return cast("_Method", call)
