"""Problems of a data set, counts of an epoch, and their lines for the terminal."""

from collections.abc import Iterable
from dataclasses import dataclass

from tensorboard_sidecar.trainer.data.limits import EXAMPLES_NAMED


class DataError(ValueError):
    """The data set cannot be used; the message says what is missing, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem, the number of its occurrences, and the first few names."""

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.examples)
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} {self.kind}: {shown}{more}"


class Tally:
    """Counts problems by kind and keeps the first few names of each kind; its memory is bounded."""

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._found: dict[str, Problem] = {}
        for problem in problems:
            self._count(problem)

    def add(self, kind: str, name: str) -> None:
        """Count a problem of a kind; ``name`` is the file or line with the problem."""
        self._count(Problem(kind, 1, (printable(name),)))

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems so far, kinds in the order of their first occurrence."""
        return tuple(self._found.values())

    def _count(self, more: Problem) -> None:
        so_far = self._found.get(more.kind, Problem(more.kind, 0, ()))
        examples = (so_far.examples + more.examples)[:EXAMPLES_NAMED]
        self._found[more.kind] = Problem(more.kind, so_far.count + more.count, examples)


@dataclass(frozen=True, slots=True)
class DataReport:
    """The report about a data set: ``notes`` for the user, and ``problems`` of skipped files and lines."""

    notes: tuple[str, ...]
    problems: tuple[Problem, ...]

    def lines(self) -> tuple[str, ...]:
        """Return the report for a terminal, one line a fact."""
        return (*self.notes, *(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class EpochCounts:
    """The pairs of an epoch, the number of their recordings that were cut, and all problems of the run so far."""

    pairs: int
    cut: int
    problems: tuple[Problem, ...]


def sum_counts(parts: Iterable[EpochCounts]) -> EpochCounts:
    """Return the sum of the counts of several loaders, which read different files."""
    counts = tuple(parts)
    problems = Tally(problem for part in counts for problem in part.problems).problems()
    return EpochCounts(sum(part.pairs for part in counts), sum(part.cut for part in counts), problems)


class EpochNotes:
    """Turns the counts of each epoch into lines for the terminal, without repeating a line."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._reported_cut = False
        self._reported: tuple[Problem, ...] = ()

    def lines(self, counts: EpochCounts) -> tuple[str, ...]:
        """Return new lines: problems when there are more, and cut recordings once: every epoch draws others."""
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


def printable(name: str, limit: int = 200) -> str:
    """Return the name for a terminal: control characters escaped, at most ``limit`` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
