"""The description of a setting besides its type and default: its place in the help, and its bounds."""

import math
from dataclasses import dataclass
from typing import Any, Final

INT_MAX: Final = 2**63 - 1
"""The largest int: checkpoints, records and torch keep integers in 64 bits."""


class ConfigError(ValueError):
    """A setting cannot be used; the message names the setting, its value, and the expected values."""


@dataclass(frozen=True)
class Setting:
    """Group and explanation for the help; bounds, for numbers; choices, for names.

    >>> Setting("training", "passes over the data", minimum=1).check("epochs", 3)
    """

    group: str
    explanation: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError for a value out of bounds, or not among the choices."""
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {value!r:.80}; expected one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not self._allows(value):
            bounds = f"{self.minimum} to {self.maximum}" if math.isfinite(self.maximum) else f"{self.minimum} or more"
            shown = value if isinstance(value, float) or abs(value) <= INT_MAX else "of more than 64 bits"
            raise ConfigError(f"{name} is {shown}; expected {bounds}")

    def _allows(self, value: float) -> bool:
        # math.isfinite raises OverflowError for an int that is larger than any float.
        finite = abs(value) <= INT_MAX if isinstance(value, int) else math.isfinite(value)
        return finite and self.minimum <= value <= self.maximum
