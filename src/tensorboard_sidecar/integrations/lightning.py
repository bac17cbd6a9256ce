"""The public names for users of lightning; see ``tensorboard_sidecar.telemetry.integrations.lightning``."""

from tensorboard_sidecar.telemetry.integrations.lightning import SidecarLogger

__all__ = ["SidecarLogger"]
