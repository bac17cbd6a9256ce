"""TensorBoard logging that never makes a training loop wait.

``Telemetry`` is what a training loop calls. The rest is found by its full name, ``tensorboard_sidecar.<room>``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard_sidecar.telemetry.telemetry import Telemetry

__all__ = ["Telemetry"]


def __getattr__(name: str) -> object:
    """Import the client library at its first use: the logger imports this package too, and has no torch."""
    if name in __all__:
        from tensorboard_sidecar.telemetry import telemetry  # noqa: PLC0415 - see above

        return getattr(telemetry, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
