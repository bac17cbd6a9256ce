"""What was wrong with a data set: one error for a folder that is none, a tally for single faults in one that is."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tensorboard_sidecar.trainer.data.limits import EXAMPLES_NAMED


class DataError(ValueError):
    """The data set cannot be used at all; the message says what was looked for, where, and what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of fault: what it is, how often it occurred, and the first few that have it."""

    what: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.examples)
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count} {self.what}: {shown}{more}"


@dataclass(slots=True)
class Tally:
    """Counts faults by kind and keeps the first few names of each; it never grows with the number of faults."""

    _counts: dict[str, int] = field(default_factory=dict)
    _examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, name: str) -> None:
        """Count one fault of the kind `what`; `name` says where it is."""
        self._counts[what] = self._counts.get(what, 0) + 1
        examples = self._examples.setdefault(what, [])
        if len(examples) < EXAMPLES_NAMED:
            examples.append(printable(name))

    def problems(self) -> tuple[Problem, ...]:
        """Return what was counted so far, in the order in which the kinds were first met."""
        return tuple(Problem(what, count, tuple(self._examples[what])) for what, count in self._counts.items())


def merged(groups: Iterable[Iterable[Problem]]) -> tuple[Problem, ...]:
    """Return what several tallies of different files counted, as if one had."""
    found: dict[str, Problem] = {}
    for problem in (problem for group in groups for problem in group):
        so_far = found.get(problem.what, Problem(problem.what, 0, ()))
        examples = (so_far.examples + problem.examples)[:EXAMPLES_NAMED]
        found[problem.what] = Problem(problem.what, so_far.count + problem.count, examples)
    return tuple(found.values())


@dataclass(frozen=True, slots=True)
class DataReport:
    """What a data set was found to be: facts for the user (`notes`) and faults that were skipped (`problems`)."""

    notes: tuple[str, ...]
    problems: tuple[Problem, ...]

    def lines(self) -> tuple[str, ...]:
        """Return the report for a terminal, one line a fact."""
        return (*self.notes, *(str(problem) for problem in self.problems))


def printable(name: str, limit: int = 200) -> str:
    """Return the name fit for a terminal: control characters escaped, at most `limit` characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in name)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
