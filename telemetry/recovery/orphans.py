"""Outboxes that trainers left behind, found and opened one at a time."""

import logging
from collections.abc import Callable
from pathlib import Path

from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.outbox.destination import Destination, read_destination
from tensorboard_sidecar.protocol.outbox.orphan import OrphanedOutbox

_logger = logging.getLogger(__name__)


class Orphans:
    """Those that ``find`` finds and whose destination is ``wanted``; one that cannot be dealt with is said once."""

    def __init__(self, find: Callable[[], list[Path]], wanted: Callable[[Destination], bool]) -> None:
        self._find, self._wanted = find, wanted
        self._left: set[Path] = set()

    def __repr__(self) -> str:
        return f"<Orphans, {len(self._left)} left>"

    def open_next(self) -> OrphanedOutbox | None:
        """Return the first one whose trainer is gone and that nobody else has adopted."""
        try:
            found = self._find()
        except OSError as error:
            _logger.info("cannot look for what trainers left behind: %s", error)
            return None
        for folder in found:
            if folder in self._left or not self._wanted(read_destination(folder)):
                continue
            try:
                return OrphanedOutbox(folder)
            except BlockingIOError:
                continue
            except (ProtocolError, OSError) as error:
                if folder.exists():  # else somebody has shipped it meanwhile
                    self.leave(folder, str(error))
        return None

    def leave(self, folder: Path, reason: str) -> None:
        """Open this one no more, and say why."""
        self._left.add(folder)
        _logger.warning("%s, which a trainer left behind, is left there: %s", folder, reason)
