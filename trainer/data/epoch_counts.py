"""Counts of an epoch: decoded pairs, cut recordings, unreadable files; and their lines for the terminal."""

from collections.abc import Iterable
from dataclasses import dataclass

from tensorboard_sidecar.trainer.data.report import Problem, merged


@dataclass(frozen=True, slots=True)
class EpochCounts:
    """The pairs of an epoch, the number of their recordings that were cut, and all problems of the run so far."""

    pairs: int
    cut: int
    problems: tuple[Problem, ...]


def sum_counts(parts: Iterable[EpochCounts]) -> EpochCounts:
    """Return the sum of the counts of several loaders, which read different files."""
    counts = tuple(parts)
    problems = merged(part.problems for part in counts)
    return EpochCounts(sum(part.pairs for part in counts), sum(part.cut for part in counts), problems)


class EpochNotes:
    """Turns the counts of each epoch into lines for the terminal, without repeating a line."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._reported_cut = False
        self._reported: tuple[Problem, ...] = ()

    def lines(self, counts: EpochCounts) -> tuple[str, ...]:
        """Return the new lines: problems when there are new ones, and cut recordings in the first epoch with any.

        The number of cut recordings changes with the captions that an epoch draws; a single line is enough.
        """
        lines: list[str] = []
        if counts.cut and not self._reported_cut:
            self._reported_cut = True
            lines.append(
                f"{counts.cut} of {counts.pairs} recordings are longer than {self._max_seconds:g} s,"
                " and are cut there (--max_seconds)"
            )
        if counts.problems != self._reported:
            self._reported = counts.problems
            lines += map(str, counts.problems)
        return tuple(lines)
