"""What the rules know of a run besides the sample at hand: its settings, its length, the past of its curves."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, NamedTuple

from tensorboard_sidecar.logger_service.findings.levels import Level
from tensorboard_sidecar.logger_service.findings.roles import Role, role_of_curve, subject
from tensorboard_sidecar.protocol.messages import ParameterValue

# The part of a run in which rules do not judge: the loss falls fast, the learning rate rises.
WARM_UP_SHARE: Final = 0.05
# The warm-up of a run whose length is not known, and of a very long run at most.
WARM_UP_STEPS: Final = 100
WARM_UP_STEPS_MAX: Final = 2_000
# Settings by the last part of their name. ``steps`` and ``num_steps`` are not among them: of a diffusion, often.
_TOTAL_STEPS: Final = (
    *("total_steps", "max_steps", "max_train_steps", "num_training_steps", "num_train_steps", "train_steps"),
    *("max_iters", "num_iterations", "total_timesteps"),
)
_EPOCHS: Final = ("epochs", "num_epochs", "max_epochs", "num_train_epochs", "n_epochs")
SETTINGS_MAX: Final = 4_096
_CURVES_MAX: Final = 1_024
# Curves of one role whose past is kept, and parts of a past.
PASTS_MAX: Final = 64
PARTS_MAX: Final = 256
# Values of a training loss that say how high it usually is, and from which number of values on.
_LEVEL_VALUES: Final = 100
_LEVEL_VALUES_MIN: Final = 20
_WITH_PAST: Final = (Role.LOSS, Role.QUALITY, Role.RECALL)
_NAME_PARTS: Final = re.compile(r"[/.]")


class Last(NamedTuple):
    """The last point of a curve."""

    step: int
    value: float


class Past:
    """The past of one curve: means of at most PARTS_MAX parts, each of the same number of points."""

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._means: list[float] = []
        self._points_a_part = 1
        self._first_step = 0
        self._begun: list[float] = []

    def add(self, steps: Sequence[int], values: Sequence[float]) -> None:
        """Add points, at least one."""
        if not self._steps and not self._begun:
            self._first_step = steps[0]
        at = 0
        while at < len(values):
            end = at + self._points_a_part - len(self._begun)
            self._begun += values[at:end]
            if end > len(values):
                break
            self._steps.append(steps[end - 1])
            self._means.append(sum(self._begun) / len(self._begun))
            self._begun, at = [], end
            if len(self._steps) >= PARTS_MAX:
                self._steps = self._steps[1::2]
                self._means = [(a + b) / 2 for a, b in zip(self._means[::2], self._means[1::2], strict=True)]
                self._points_a_part *= 2

    def mean(self, after: int, upto: int) -> float | None:
        """Return the mean of the parts that end at these steps; without any, of the part before, or that began by then.

        None means that the curve has no point up to the step ``upto``.
        """
        begin, end = bisect_right(self._steps, after), bisect_right(self._steps, upto)
        if begin < end:
            return sum(self._means[begin:end]) / (end - begin)
        if not self._means or upto < self._first_step:
            return None
        return self._means[max(end - 1, 0)]


@dataclass(slots=True)
class EpochLength:
    """The number of steps in an epoch, by the curve of the epoch.

    Curves of three kinds are known: a point an epoch (the reference trainer: 1 at its end), the same whole number at
    every point of an epoch (Lightning: from 0), and a fraction at every point (Transformers).
    """

    steps: float = 0.0
    _last: Last | None = None
    _origin: Last | None = None
    _points: int = 0

    def add(self, first_step: int, step: int, epoch: float) -> None:
        """Take a point of the curve of a stream that began at ``first_step``. Points that go back are left out."""
        last = self._last
        if last is None:
            self._origin = Last(step, epoch)
        elif step <= last.step or epoch < last.value:
            return
        elif epoch == last.value:
            if self._points == 1:  # the curve has a point a step: the first epoch began with the run
                self._origin = Last(first_step, epoch) if first_step <= 0 else None
        elif self._origin is None:
            self._origin = Last(step, epoch)
        else:
            self.steps = (step - self._origin.step) / (epoch - self._origin.value)
        self._last = Last(step, epoch)
        self._points += 1


@dataclass(slots=True)
class Facts:
    """The facts of one run, by what its records said so far.

    ``settings`` are the parameters of the run's start and of its hyperparameters; ``last`` is the last point of each
    curve that has a role; ``first_step`` is the step at which the stream began, above 0 for a run that resumes, and
    ``continues`` tells that it goes on with an earlier attempt; ``game`` tells that the run is one of reinforcement
    learning, or of adversarial networks, whose losses have no minimum to fall to; ``total_steps`` is the number of
    steps of the whole run, None if nothing says it; ``levels`` are the usual levels of the training losses.
    """

    settings: dict[str, ParameterValue] = field(default_factory=dict)
    last: dict[str, Last] = field(default_factory=dict)
    first_step: int = 0
    continues: bool = False
    game: bool = False
    total_steps: int | None = None
    _warm_up_steps: int = WARM_UP_STEPS
    levels: dict[str, Level] = field(default_factory=dict)
    _named: dict[str, float] = field(default_factory=dict)
    _pasts: dict[Role, dict[str, Past]] = field(default_factory=lambda: {role: {} for role in _WITH_PAST})
    _rates: dict[str, float] = field(default_factory=dict)
    _epoch: EpochLength = field(default_factory=EpochLength)
    _epoch_tag: str | None = None

    def __post_init__(self) -> None:
        given, self.settings = self.settings, {}
        self.learn_settings(given)

    @property
    def warm_up_end(self) -> int:
        """The first step after the warm-up."""
        return self.first_step + self._warm_up_steps

    @property
    def resumed(self) -> bool:
        """Tell whether the stream goes on with a training that began before."""
        return self.continues or self.first_step > 0

    @property
    def learning_rate(self) -> float | None:
        """The largest of the learning rates that were logged last; None if the run logs none."""
        return max(self._rates.values(), default=None)

    def learn_settings(self, parameters: Mapping[str, ParameterValue]) -> None:
        """Take over the settings of a run, SETTINGS_MAX at most."""
        for name, value in parameters.items():
            if name not in self.settings and len(self.settings) >= SETTINGS_MAX:
                continue
            self.settings[name] = value
            if isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) <= value <= 2**63:
                self._named[_NAME_PARTS.split(name)[-1]] = float(value)
        self._set_length()

    def take(self, role: Role | None, tag: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Take points of a curve."""
        if tag in self.last or len(self.last) < _CURVES_MAX:
            self.last[tag] = Last(steps[-1], values[-1])
        if role in self._pasts:
            pasts = self._pasts[role]
            if tag in pasts or len(pasts) < PASTS_MAX:
                past = pasts.get(tag)
                if past is None:
                    past = pasts[tag] = Past()
                past.add(steps, values)
                if role is Role.LOSS:
                    self._take_level(tag, values)
        elif role is Role.GAME:
            self.game = True
        elif role is Role.LEARNING_RATE:
            if tag in self._rates or len(self._rates) < PASTS_MAX:
                self._rates[tag] = values[-1]
        elif role is Role.EPOCH and self._epoch_tag in (None, tag):
            self._epoch_tag = tag
            for step, value in zip(steps, values, strict=True):
                self._epoch.add(self.first_step, step, value)
            self._set_length()

    def _take_level(self, tag: str, values: Sequence[float]) -> None:
        level = self.levels.get(tag)
        if level is None:
            level = self.levels[tag] = Level(_LEVEL_VALUES, _LEVEL_VALUES_MIN)
        level.take(values)

    def note(self, tag: str, step: int, value: float) -> None:
        """Take one point of a curve."""
        self.take(role_of_curve(tag), tag, [step], [value])

    def number(self, *names: str) -> float | None:
        """Return the first of these settings that is a number, or None.

        >>> Facts(settings={"data/batch_size": 64}).number("batch_size")
        64.0
        """
        return next((self._named[name] for name in names if name in self._named), None)

    def training_loss(self, validation_tag: str) -> Past | None:
        """Return the past of the training loss that belongs to a validation loss; None without a training loss."""
        pasts, about = self._pasts[Role.LOSS], subject(validation_tag)
        return next((past for tag, past in pasts.items() if subject(tag) == about), next(iter(pasts.values()), None))

    def scores(self) -> Iterable[Past]:
        """Return the pasts of all scores that grow in a healthy run."""
        return [*self._pasts[Role.QUALITY].values(), *self._pasts[Role.RECALL].values()]

    def _set_length(self) -> None:
        steps, epochs = self.number(*_TOTAL_STEPS), self.number(*_EPOCHS)
        if steps is None or steps <= 0:  # Transformers: max_steps is -1 when the epochs count
            steps = epochs * self._epoch.steps if epochs is not None and epochs > 0 else 0.0
        self.total_steps = int(steps) if isfinite(steps) and steps >= 1 else None
        self._warm_up_steps = WARM_UP_STEPS
        if self.total_steps is not None:
            self._warm_up_steps = min(int(WARM_UP_SHARE * self.total_steps), WARM_UP_STEPS_MAX)
