"""Messages to TensorBoard event files, and back for checks; the only room that imports tensorboardX.

May import ``protocol``, ``protocol.storage`` and ``rendering``.
"""

import tensorboard_sidecar.logger_service.events.without_torch  # noqa: F401 - before any other import of tensorboardX
