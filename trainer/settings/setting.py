"""What is known of one setting besides its type and default: where it stands in the help, and what it may be."""

import math
from dataclasses import dataclass
from typing import Any, Final

INT_MAX: Final = 2**63 - 1
"""No int is larger: checkpoints, records and torch keep them in 64 bits."""


class ConfigError(ValueError):
    """A setting cannot be used; the message names it, what came, and what is expected."""


@dataclass(frozen=True)
class Setting:
    """Group and explanation for the help; the bounds are for numbers, the choices for names."""

    group: str
    explanation: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError for a value that is not allowed."""
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {value!r:.80}; expected one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not self._allows(value):
            bounds = f"{self.minimum} to {self.maximum}" if math.isfinite(self.maximum) else f"{self.minimum} or more"
            shown = value if isinstance(value, float) or abs(value) <= INT_MAX else "of more than 64 bits"
            raise ConfigError(f"{name} is {shown}; expected {bounds}")

    def _allows(self, value: float) -> bool:
        # Not by isfinite alone: an int may be larger than any float.
        finite = abs(value) <= INT_MAX if isinstance(value, int) else math.isfinite(value)
        return finite and self.minimum <= value <= self.maximum
