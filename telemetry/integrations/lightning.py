"""Lightning's ``TensorBoardLogger`` with the writer of this project.

``SidecarLogger`` is a ``TensorBoardLogger``: the folders, the tags, ``hparams.yaml`` and the parameters are those of
Lightning. The differences:

- No call waits for a disk or a device. ``log_metrics`` takes a tensor on a device as it is.
- ``finalize("failed")``, which Lightning calls after an exception, ends the run as failed or interrupted.
- A call after ``finalize`` continues the run. ``trainer.test()`` after ``trainer.fit()`` adds to the run of ``fit()``.
- ``save_dir`` is a local folder.
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only

from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter


class SidecarLogger(TensorBoardLogger):
    """A drop-in for ``lightning.pytorch.loggers.TensorBoardLogger``, for ``Trainer(logger=...)`` and for Fabric.

    The parameters are those of ``TensorBoardLogger``; further keywords go to ``SummaryWriter``. Raises ValueError for a
    ``save_dir`` on another file system ("s3://...").
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "lightning_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if "://" in os.fspath(save_dir):
            raise ValueError(f"expected a local folder, got save_dir={os.fspath(save_dir)!r}")
        super().__init__(save_dir, name, version, log_graph, default_hp_metric, prefix, sub_dir, **kwargs)
        self._experiment: SummaryWriter | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """The writer, made at the first use; on other ranks than 0, an object that ignores all calls."""
        if self._experiment is None:
            self._experiment = SummaryWriter(log_dir=self.log_dir, **self._kwargs)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Keep each metric: a number or a tensor with one element; a dict of numbers makes overlaid curves."""
        for key, value in metrics.items():
            tag = f"{self._prefix}{self.LOGGER_JOIN_CHAR}{key}" if self._prefix else key
            if isinstance(value, dict):
                self.experiment.add_scalars(tag, value, step)
            else:
                self.experiment.add_scalar(tag, value, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the writer. After ``status="failed"`` the run has failed; Ctrl-C interrupted the run."""
        if status == "success":
            self.save()
        if self._experiment is None:
            return
        if status == "failed":
            error = sys.exception() or RuntimeError("the logger was finalized as failed")
            self._experiment.__exit__(type(error), error, error.__traceback__)
        else:
            self._experiment.close()
