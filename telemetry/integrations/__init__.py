"""The loggers of training frameworks, on top of ``SummaryWriter``. Each module imports its own framework, no other.

May import ``telemetry``. Users import the modules as ``tensorboard_sidecar.integrations.<framework>``.
"""
