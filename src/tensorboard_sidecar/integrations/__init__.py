"""The loggers of training frameworks: ``from tensorboard_sidecar.integrations.lightning import SidecarLogger``."""
