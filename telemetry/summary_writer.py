"""``SummaryWriter(log_dir)``: a script changes the line that imports its writer, and nothing else."""

import os
import socket
from pathlib import Path
from time import localtime, strftime
from typing import Final

from tensorboard_sidecar.protocol.run_names import shown_run
from tensorboard_sidecar.telemetry.telemetry import Telemetry
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

RECORDING_NAME: Final = ".tensorboard-sidecar"


class SummaryWriter(WriterMethods):
    """Torch's and tensorboardX's ``SummaryWriter``, with nothing to start; see :class:`WriterMethods`."""

    def __init__(
        self,
        logdir: str | os.PathLike[str] | None = None,
        comment: str = "",
        *,
        log_dir: str | os.PathLike[str] | None = None,
        strict: bool = False,
    ) -> None:
        given = logdir if log_dir is None else log_dir
        default = f"runs/{strftime('%b%d_%H-%M-%S', localtime())}_{socket.gethostname()}{comment}"
        folder = Path(os.path.abspath(Path(given or default).expanduser()))  # noqa: PTH100 - keeps links as they are
        run, _ = shown_run(folder.name)
        telemetry = Telemetry(run, endpoint=None, record=folder / RECORDING_NAME, strict=strict)
        super().__init__(telemetry, str(given or default))
