"""What an epoch met in the files: how many pairs, and what a user should know about them."""

from collections.abc import Iterable
from dataclasses import dataclass

from tensorboard_sidecar.trainer.data.report import Problem, merged


@dataclass(frozen=True, slots=True)
class Seen:
    """The pairs of an epoch, how many recordings of them go on beyond what is heard, and the problems so far."""

    pairs: int
    cut: int
    problems: tuple[Problem, ...]


def seen_together(parts: Iterable[Seen]) -> Seen:
    """Return what several loaders saw of different files, as if one had."""
    seen = tuple(parts)
    problems = merged(part.problems for part in seen)
    return Seen(sum(part.pairs for part in seen), sum(part.cut for part in seen), problems)


class SeenNotes:
    """Turns what each epoch met into lines, each of them once."""

    def __init__(self, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._said_cut = False
        self._said: tuple[Problem, ...] = ()

    def lines(self, seen: Seen) -> tuple[str, ...]:
        """Return what is new: problems as soon as there are more, recordings that are cut in the first epoch with one.

        Every epoch draws other captions, so that their number changes from one to the next; once is enough.
        """
        lines: list[str] = []
        if seen.cut and not self._said_cut:
            self._said_cut = True
            lines.append(
                f"{seen.cut} of {seen.pairs} recordings are longer than {self._max_seconds:g} s,"
                " and no more is heard of them (--max_seconds)"
            )
        if seen.problems != self._said:
            self._said = seen.problems
            lines += map(str, seen.problems)
        return tuple(lines)
