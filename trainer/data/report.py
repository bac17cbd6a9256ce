"""Problems of a data set: an error for an unusable folder, a tally of problems in single files and lines."""

from collections.abc import Iterable
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Tally:
    """Counts problems by kind and keeps the first few names of each kind; its memory is bounded."""

    _counts: dict[str, int] = field(default_factory=dict)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Count a problem of a kind; ``name`` is the file or line with the problem."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < EXAMPLES_NAMED:
            examples.append(printable(name))

    def problems(self) -> tuple[Problem, ...]:
        """Return the problems so far, kinds in the order of their first occurrence."""
        return tuple(Problem(kind, count, tuple(self._examples[kind])) for kind, count in self._counts.items())


def merged(groups: Iterable[Iterable[Problem]]) -> tuple[Problem, ...]:
    """Return the sum of several tallies of different files."""
    found: dict[str, Problem] = {}
    for problem in (problem for group in groups for problem in group):
        so_far = found.get(problem.kind, Problem(problem.kind, 0, ()))
        examples = (so_far.examples + problem.examples)[:EXAMPLES_NAMED]
        found[problem.kind] = Problem(problem.kind, so_far.count + problem.count, examples)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class DataReport:
    """The report about a data set: ``notes`` for the user, and ``problems`` of skipped files and lines."""

    notes: tuple[str, ...]
    problems: tuple[Problem, ...]

    def lines(self) -> tuple[str, ...]:
        """Return the report for a terminal, one line a fact."""
        return (*self.notes, *(str(problem) for problem in self.problems))


def printable(name: str, limit: int = 200) -> str:
    """Return the name for a terminal: control characters escaped, at most ``limit`` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
