"""The ``TensorBoardTracker`` of Accelerate with the writer of this project.

``SidecarTracker`` is a ``TensorBoardTracker``: the name ("tensorboard"), the folders, the tags, the row of
hyperparameters and ``hparams.yml`` are Accelerate's.
"""

import os

from accelerate.tracking import TensorBoardTracker, on_main_process

from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter


class SidecarTracker(TensorBoardTracker):
    """A drop-in for ``accelerate.tracking.TensorBoardTracker``, for ``Accelerator(log_with=...)``.

    ``SidecarTracker("first-try", "runs")`` logs to ``runs/first-try``; further keywords go to ``SummaryWriter``. The
    main process alone logs.
    """

    @on_main_process
    def start(self) -> None:
        """Make the writer; ``Accelerator.init_trackers`` calls this method."""
        self.logging_dir = os.path.join(self.logging_dir_param, self.run_name)  # noqa: PTH118 - str, as the base class
        self.writer = SummaryWriter(log_dir=self.logging_dir, **self.init_kwargs)
