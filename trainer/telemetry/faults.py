"""What went wrong in telemetry: counted, said once, and kept away from the training loop."""

import logging
from typing import Final

_logger: Final = logging.getLogger("trainer.telemetry")


class Faults:
    """Counts faults in ``total``; a strict one raises them."""

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.total = 0
        self._said: set[tuple[str, type[Exception]]] = set()

    def __repr__(self) -> str:
        return f"<Faults {self.total}>"

    def note(self, call: str, error: Exception) -> None:
        """Count a fault and say it, once for each call and kind of error; raise it when strict."""
        self.total += 1
        if self.strict:
            raise error
        if (call, type(error)) not in self._said:
            self._said.add((call, type(error)))
            _logger.warning("%s: %s: %.500s (said once; training goes on)", call, type(error).__name__, error)
