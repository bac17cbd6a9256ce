"""The public names for users of transformers; see ``tensorboard_sidecar.telemetry.integrations.transformers``."""

from tensorboard_sidecar.telemetry.integrations.transformers import SidecarCallback

__all__ = ["SidecarCallback"]
