"""An Ignite training that logs through ``TensorboardLogger``. ``python ignite_stock.py FOLDER``."""

import sys
from types import ModuleType

import torch
from ignite.engine import Engine, Events
from ignite.handlers import tensorboard_logger
from ignite.handlers.tensorboard_logger import TensorboardLogger
from torch import Tensor, nn

STEPS = 6


def train(logger: TensorboardLogger, handlers: ModuleType, *, fails_at: int | None = None) -> None:
    """Fit a line; each handler of the module ``handlers`` logs. Fails at iteration ``fails_at``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def update(engine: Engine, batch: Tensor) -> float:
        if engine.state.iteration == fails_at:
            raise ArithmeticError("the loss is lost")
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(update)
    evaluator = Engine(lambda _, batch: model(batch).mean().item())

    @evaluator.on(Events.EPOCH_COMPLETED)
    def _mean(engine: Engine) -> None:
        engine.state.metrics = {"mean": engine.state.output, "parts": {"one": 1, "two": [2.0, torch.tensor(3.0)]}}

    data = list(torch.randn(STEPS, 8, 3))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(data[:1]))
    attach(logger, handlers, trainer, evaluator, model, optimizer)
    with logger:
        trainer.run(data, max_epochs=2)


def attach(
    logger: TensorboardLogger,
    handlers: ModuleType,
    trainer: Engine,
    evaluator: Engine,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Attach every handler that the logger has."""
    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED, tag="train", output_transform=lambda loss: {"loss": loss}
    )
    logger.attach_output_handler(
        evaluator,
        Events.EPOCH_COMPLETED,
        tag="val",
        metric_names="all",
        global_step_transform=handlers.global_step_from_engine(trainer),
    )
    logger.attach_opt_params_handler(trainer, Events.ITERATION_STARTED, optimizer)
    logger.attach(trainer, handlers.WeightsScalarHandler(model), Events.ITERATION_COMPLETED(every=2))
    logger.attach(trainer, handlers.GradsScalarHandler(model, tag="second"), Events.ITERATION_COMPLETED(every=2))
    logger.attach(trainer, handlers.WeightsHistHandler(model), Events.EPOCH_COMPLETED)
    logger.attach(trainer, handlers.GradsHistHandler(model, tag="second"), Events.EPOCH_COMPLETED)


if __name__ == "__main__":
    train(TensorboardLogger(log_dir=sys.argv[1]), tensorboard_logger)
