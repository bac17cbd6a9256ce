"""From messages to TensorBoard event files; the only place that imports tensorboardX."""

import tensorboard_sidecar.logger_service.events.without_torch  # noqa: F401 - before any other import of tensorboardX
