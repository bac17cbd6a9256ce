"""The public names for users of accelerate; see ``tensorboard_sidecar.telemetry.integrations.accelerate``."""

from tensorboard_sidecar.telemetry.integrations.accelerate import SidecarTracker

__all__ = ["SidecarTracker"]
