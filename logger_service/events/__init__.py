"""From messages to TensorBoard's event files, and back to the ids in them. The only room that imports tensorboardX.

``to_events`` is pure: record to bytes. ``event_file`` and ``embedding_projector`` write files; ``audit`` reads them.
"""

import tensorboard_sidecar.logger_service.events.without_torch  # noqa: F401 - must run before any other import of tensorboardX
