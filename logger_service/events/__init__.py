"""Messages to TensorBoard event files, and back for checks; the only room that imports tensorboardX.

``to_events`` is pure: record to bytes. ``event_file`` and ``embedding_projector`` write files; ``audit`` reads them.
May import ``protocol`` and ``rendering``.
"""

# Must run before any other import of tensorboardX.
import tensorboard_sidecar.logger_service.events.without_torch  # noqa: F401 - see above
