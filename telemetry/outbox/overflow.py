"""Which records a full outbox refuses, and the account of refused records."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.messages import Gap
from tensorboard_sidecar.protocol.record import Kind

# The share of the capacity up to which a kind is taken: what is large and can be missed goes first.
CAPACITY_SHARES: Final[Mapping[int, float]] = {
    Kind.MATRIX: 0.70,
    Kind.IMAGES: 0.70,
    Kind.AUDIO: 0.70,
    Kind.EMBEDDING: 0.80,
    Kind.TENSOR_SUMMARIES: 0.80,
    Kind.TEXT: 0.80,
    Kind.SCALARS: 0.95,
}
_NAMES: Final = {int(kind): kind.name.lower() for kind in Kind}


def capacity_limits(capacity_bytes: int) -> list[float]:
    """Return, by kind, how many bytes may be in use when a record of that kind has been taken."""
    return [capacity_bytes * CAPACITY_SHARES.get(kind, 1.0) for kind in range(max(Kind) + 1)]


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
