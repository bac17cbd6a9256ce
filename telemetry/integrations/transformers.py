"""The ``TensorBoardCallback`` of transformers with the writer of this project.

``SidecarCallback`` is a ``TensorBoardCallback``: the tags, the texts and the folder (``TENSORBOARD_LOGGING_DIR``, by
default ``runs/...`` in the output folder) are those of transformers. ``trainer.evaluate()`` after ``trainer.train()``
adds to the run of ``train()``, where the stock callback makes a second writer.
"""

from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter


class SidecarCallback(TensorBoardCallback):
    """A drop-in for ``transformers.integrations.TensorBoardCallback``, for ``Trainer(callbacks=[...])``.

    ``tb_writer`` is the writer to use; without, the callback makes a writer when training begins. Set ``report_to`` of
    the training arguments to ``"none"``, or the stock callback logs beside this callback.
    """

    def __init__(self, tb_writer: SummaryWriter | None = None) -> None:
        super().__init__(tb_writer)
        self._SummaryWriter = SummaryWriter

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the arguments and the model's config as texts. Each trial of a search has a writer of its own."""
        if state.is_hyper_param_search:
            self.tb_writer = None
        super().on_train_begin(args, state, control, **kwargs)

    def on_train_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the parameters are those of every callback
        state: TrainerState,  # noqa: ARG002 - as above
        control: TrainerControl,  # noqa: ARG002 - as above
        **kwargs: Any,  # noqa: ARG002 - as above
    ) -> None:
        """Close the writer; a later ``evaluate()`` opens the writer again."""
        if self.tb_writer is not None:
            self.tb_writer.close()
