"""TensorBoard logging that never makes a training loop wait.

``SummaryWriter`` takes the place of torch's, ``GlobalSummaryWriter`` of tensorboardX's. ``Telemetry`` is what a loop
calls, and a ``Finding`` says what is wrong with a run. All other names are imported from
``tensorboard_sidecar.<room>``.
"""

from typing import TYPE_CHECKING

from tensorboard_sidecar.protocol.version import VERSION

if TYPE_CHECKING:
    from tensorboard_sidecar.protocol.finding import Finding
    from tensorboard_sidecar.telemetry import GlobalSummaryWriter, SummaryWriter, Telemetry

__all__ = ["Finding", "GlobalSummaryWriter", "SummaryWriter", "Telemetry", "__version__"]
__version__ = VERSION


def __getattr__(name: str) -> object:
    """Import the client library at its first use: the logger imports this package too, and has no torch."""
    if name in ("GlobalSummaryWriter", "SummaryWriter", "Telemetry"):
        from tensorboard_sidecar import telemetry  # noqa: PLC0415 - see above

        return getattr(telemetry, name)
    if name == "Finding":
        from tensorboard_sidecar.protocol.finding import Finding  # noqa: PLC0415 - as above

        return Finding
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
