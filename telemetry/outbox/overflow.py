"""Which records a full outbox refuses, and the account of refused records."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.kinds import KINDS
from tensorboard_sidecar.protocol.messages import Gap

# The share of the capacity up to which records of a kind are taken, from the table of kinds.
CAPACITY_SHARES: Final[Mapping[int, float]] = {row.kind: row.outbox_share for row in KINDS}
_NAMES: Final = {int(row.kind): row.name for row in KINDS}


def capacity_limits(capacity_bytes: int) -> list[float]:
    """Return, by number of the kind, the most bytes that may be in use after a record of that kind."""
    return [capacity_bytes * row.outbox_share for row in KINDS]


class Refusals(NamedTuple):
    """The account of refused records: ``total`` in all, of which ``untold`` since the last gap, by kind in ``kinds``.

    An account is immutable: refusing a record replaces the account in the outbox's state.
    """

    total: int = 0
    untold: int = 0
    kinds: Mapping[str, int] = MappingProxyType({})

    def __bool__(self) -> bool:
        return bool(self.untold)

    def add(self, kind: int) -> "Refusals":
        """Return the account with one more refused record."""
        name = _NAMES[kind]
        return Refusals(self.total + 1, self.untold + 1, {**self.kinds, name: self.kinds.get(name, 0) + 1})

    def gap(self) -> Gap:
        """Return the message that tells the untold refusals."""
        return Gap("the outbox was full", dict(self.kinds))

    def told(self) -> "Refusals":
        """Return the account after the gap was appended."""
        return Refusals(self.total)
