"""The examination: every run at or below some paths is shown to the rules; one run at a time is in memory."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.doctor.event_folders import judge_folder
from tensorboard_sidecar.logger_service.doctor.places import Places, find_places
from tensorboard_sidecar.logger_service.doctor.recordings import judge_stream
from tensorboard_sidecar.logger_service.doctor.verdict import Diagnosis, Verdict, diagnose
from tensorboard_sidecar.logger_service.findings.rule import Rule

# Lines about what cannot be read of one recording or folder; the last line counts the others.
NOTES_MAX: Final = 10


def examine(
    paths: Sequence[Path],
    rules: Sequence[Rule],
    wall_time_ns: int,
    progress: Callable[[str], object] = lambda _: None,
) -> Diagnosis:
    """Judge every run at or below ``paths``. ``progress`` takes a line for people now and then.

    Raises FileNotFoundError for a path with neither recordings nor event files, OSError.
    """
    places = find_places(paths)
    total = len(places.streams) + len(places.folders)
    verdicts: list[Verdict] = []

    def show(number: int, run: str) -> Callable[[float], object]:
        return lambda share: progress(f"{number} of {total}: {run}, {share:.0%}")

    for number, stream in enumerate(places.streams, 1):
        notes = _Notes(places, stream.run)
        verdicts.append(judge_stream(stream, rules, notes.add, show(number, stream.run)))
        notes.close()
    for number, folder in enumerate(places.folders, len(places.streams) + 1):
        notes = _Notes(places, folder.run)
        verdicts += judge_folder(folder, rules, notes.add, show(number, folder.run))
        notes.close()
    return diagnose(verdicts, places.unread, wall_time_ns)


class _Notes:
    """Lines about what cannot be read of one place: the first NOTES_MAX, and the number of the others."""

    def __init__(self, places: Places, run: str) -> None:
        self._places, self._run, self._count = places, run, 0

    def add(self, line: str) -> None:
        self._count += 1
        if self._count <= NOTES_MAX:
            self._places.note(self._run, line)

    def close(self) -> None:
        if self._count > NOTES_MAX:
            self._places.note(self._run, f"{self._count - NOTES_MAX:,} more places are not readable")
