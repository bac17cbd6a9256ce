"""The client library: a training loop calls it, and it carries the loop's records to a logger or a recording.

Its public names are ``Telemetry``, ``SummaryWriter`` and ``GlobalSummaryWriter`` of ``tensorboard_sidecar``. Needs
torch, pyzmq and msgpack; no torchvision, no matplotlib. May import ``protocol`` and its own rooms.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard_sidecar.telemetry.global_writer import GlobalSummaryWriter
    from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter
    from tensorboard_sidecar.telemetry.telemetry import Telemetry

__all__ = ["GlobalSummaryWriter", "SummaryWriter", "Telemetry"]


def __getattr__(name: str) -> object:
    """Import torch at the first use: ``drain`` and ``status`` import this package too."""
    if name == "Telemetry":
        from tensorboard_sidecar.telemetry.telemetry import Telemetry  # noqa: PLC0415 - see above

        return Telemetry
    if name == "SummaryWriter":
        from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter  # noqa: PLC0415 - see above

        return SummaryWriter
    if name == "GlobalSummaryWriter":
        from tensorboard_sidecar.telemetry.global_writer import GlobalSummaryWriter  # noqa: PLC0415 - see above

        return GlobalSummaryWriter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
