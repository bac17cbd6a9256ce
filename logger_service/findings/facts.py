"""What the rules know of a run besides the sample at hand: its settings, its length, the last points of its curves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.messages import ParameterValue

# The part of a run in which rules do not judge: the loss falls fast, the learning rate rises.
WARM_UP_SHARE: Final = 0.05
# The warm-up of a run whose length is not known, and of a very long run at most.
WARM_UP_STEPS: Final = 100
WARM_UP_STEPS_MAX: Final = 2_000
_TOTAL_STEPS: Final = ("total_steps", "max_steps", "max_train_steps", "num_training_steps", "num_steps", "steps")
_EPOCHS: Final = ("epochs", "num_epochs", "max_epochs", "num_train_epochs")
_CURVES_MAX: Final = 1_024


class Last(NamedTuple):
    """The last point of a curve."""

    step: int
    value: float


@dataclass(slots=True)
class Facts:
    """The facts of one run, by what its records said so far.

    ``settings`` are the parameters of the run's start and of its hyperparameters; ``last`` is the last point of each
    curve that has a role.
    """

    settings: dict[str, ParameterValue] = field(default_factory=dict)
    last: dict[str, Last] = field(default_factory=dict)
    first_step: int = 0
    _steps_per_epoch: float = 0.0
    _epoch: Last | None = None

    def learn_settings(self, parameters: Mapping[str, ParameterValue]) -> None:
        """Take over the settings of a run."""
        self.settings.update(parameters)

    def note(self, tag: str, step: int, value: float) -> None:
        """Take the last point of a curve."""
        if tag in self.last or len(self.last) < _CURVES_MAX:
            self.last[tag] = Last(step, value)

    def note_epoch(self, step: int, epoch: float) -> None:
        """Take a point of the epoch's curve: its slope is the number of steps in an epoch."""
        before = self._epoch if self._epoch is not None else Last(self.first_step, 0.0)
        if epoch > before.value and step > before.step and not self._steps_per_epoch:
            self._steps_per_epoch = (step - before.step) / (epoch - before.value)
        self._epoch = Last(step, epoch)

    @property
    def total_steps(self) -> int | None:
        """The number of steps of the whole run, if the settings say it."""
        if (steps := self.number(*_TOTAL_STEPS)) is not None and steps > 0:
            return int(steps)
        epochs = self.number(*_EPOCHS)
        if epochs is None or epochs <= 0 or not self._steps_per_epoch:
            return None
        return int(epochs * self._steps_per_epoch)

    @property
    def warm_up_end(self) -> int:
        """The first step after the warm-up."""
        total = self.total_steps
        if total is None:
            return self.first_step + WARM_UP_STEPS
        return self.first_step + min(int(WARM_UP_SHARE * total), WARM_UP_STEPS_MAX)

    def number(self, *names: str) -> float | None:
        """Return the first of these settings that is a number, or None.

        >>> Facts(settings={"data/batch_size": 64}).number("batch_size")
        64.0
        """
        for name in names:
            for key, value in self.settings.items():
                if isinstance(value, int | float) and not isinstance(value, bool) and key.split("/")[-1] == name:
                    return float(value)
        return None
