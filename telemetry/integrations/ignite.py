"""Ignite's ``TensorboardLogger`` and its handlers with the writer of this project.

``SidecarLogger`` is a ``TensorboardLogger``: the API to attach handlers, the handlers and the tags are Ignite's. The
handlers of histograms are the exception: Ignite's handlers copy each tensor to the host and wait for the device, those
of this module do not wait. Used as a context manager, the logger tells a run that failed from a completed run.
"""

from types import TracebackType
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers.base_logger import BaseWeightsHandler
from ignite.handlers.tensorboard_logger import (
    GradsScalarHandler,
    OptimizerParamsHandler,
    OutputHandler,
    TensorboardLogger,
    WeightsScalarHandler,
    global_step_from_engine,
)

from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter

__all__ = [
    "GradsHistHandler",
    "GradsScalarHandler",
    "OptimizerParamsHandler",
    "OutputHandler",
    "SidecarLogger",
    "WeightsHistHandler",
    "WeightsScalarHandler",
    "global_step_from_engine",
]


class SidecarLogger(TensorboardLogger):
    """A drop-in for ``ignite.handlers.TensorboardLogger``. The parameters are those of ``SummaryWriter``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # The constructor of TensorboardLogger makes another writer, and nothing else.
        self.writer = SummaryWriter(*args, **kwargs)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.__exit__(kind, error, traceback)


class WeightsHistHandler(BaseWeightsHandler):
    """Keeps a histogram of each weight; the parameters and tags are those of Ignite's ``WeightsHistHandler``."""

    def __call__(self, engine: Engine, logger: SidecarLogger, event_name: str | Events) -> None:
        """Keep the histograms of this moment."""
        step = engine.state.get_event_attrib_value(event_name)
        for name, weight in self.weights:
            logger.writer.add_histogram(_tag(self.tag, "weights", name), weight.detach(), step)


class GradsHistHandler(BaseWeightsHandler):
    """Keeps a histogram of each gradient; the parameters and tags are those of Ignite's ``GradsHistHandler``."""

    def __call__(self, engine: Engine, logger: SidecarLogger, event_name: str | Events) -> None:
        """Keep the histograms of this moment."""
        step = engine.state.get_event_attrib_value(event_name)
        for name, weight in self.weights:
            if weight.grad is not None:
                logger.writer.add_histogram(_tag(self.tag, "grads", name), weight.grad, step)


def _tag(prefix: str | None, kind: str, name: str) -> str:
    return f"{f'{prefix}/' if prefix else ''}{kind}/{name.replace('.', '/')}"
