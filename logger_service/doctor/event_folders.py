"""Judges a folder of event files of any program: one run, whose files are read in the order of their names.

A run that begins again is judged from there on as a new attempt. It begins again

- at a session start, which writers give with ``purge_step``;
- with a new file whose steps go back: most programs give no session start;
- within a file where a curve goes back to its first step or before. After RESTARTS_MAX of these, the steps of the
  folder do not count steps of a training (an epoch's batches, perhaps), and the folder is judged in one piece from
  there on.

Findings of an earlier attempt are over when the later one begins. Attempts that are written at the same time (many
programs let all processes of a training write into one folder) do not end each other's findings.
"""

import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from math import inf, isfinite
from pathlib import Path
from typing import Final, NamedTuple

from msgspec.structs import replace

from tensorboard_sidecar.logger_service.doctor.event_file import read_payloads
from tensorboard_sidecar.logger_service.doctor.places import EventsPlace
from tensorboard_sidecar.logger_service.doctor.verdict import Verdict
from tensorboard_sidecar.logger_service.events.event_file import names_in
from tensorboard_sidecar.logger_service.events.watched_values import Distribution, EventReader, Watched
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.samples import Layer
from tensorboard_sidecar.logger_service.findings.watch import Watch, fingerprint
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import ParameterValue

RESTARTS_MAX: Final = 2
# What the rules of these roles need is in no event file, or there as a picture.
_ONLY_RECORDED: Final = frozenset({Role.STREAM, Role.SIMILARITY, Role.EMBEDDING})
# Rows of hyperparameters are folders in the run's folder: this program's, and those of torch's ``add_hparams``.
_ROW: Final = re.compile(r"hparams-[0-9a-f]{12}|[0-9]{9,}(?:\.[0-9]+)?")
_ROWS_MAX: Final = 1_000
_ROW_EVENTS: Final = 8
# Tags whose steps are followed, and hyperparameters that are kept.
_TAGS_MAX: Final = 20_000
_PROGRESS_EVENTS: Final = 1_000


class _Steps(NamedTuple):
    """The first and the last step of one tag in the present attempt."""

    first: int
    last: int


class _Times(NamedTuple):
    """The times of an attempt, and whether it says itself that it takes the place of what was before."""

    began_ns: int
    last_ns: int
    replaces: bool


class _Attempt:
    """One attempt: its watch, its times, and the steps of its tags."""

    def __init__(self, rules: tuple[Rule, ...], settings: dict[str, ParameterValue]) -> None:
        self.watch = Watch(rules)
        self.steps: dict[str, _Steps] = {}
        self.began_ns = self.last_ns = self.last_step = 0
        self._settings, self._is_begun = settings, False
        self.replaces = False

    @property
    def has_curves(self) -> bool:
        """Whether a tag has more than one point."""
        return any(steps.first != steps.last for steps in self.steps.values())

    def knows(self, event: Watched) -> bool:
        """Tell whether an event goes on with a tag of this attempt."""
        return any(tag in self.steps for tag in (*event.scalars, *event.histograms))

    def goes_back(self, event: Watched, *, new_file: bool) -> bool:
        """Tell whether an event begins the run again; see the rules above."""
        for tag in (*event.scalars, *event.histograms):
            known = self.steps.get(tag)
            if known is None or event.step >= known.last:
                continue
            if new_file or event.step <= known.first:
                return True
        return False

    def take(self, event: Watched) -> None:
        """Show an event to the rules."""
        self.began_ns = self.began_ns or event.wall_time_ns
        self.last_ns = max(self.last_ns, event.wall_time_ns)
        if event.settings:
            self._settings.update(event.settings)
            self.watch.settings(event.settings)
        if not (event.scalars or event.histograms):
            return
        if not self._is_begun:
            self._is_begun = True
            self.watch.start(event.step, self._settings)
        self.last_step = max(self.last_step, event.step) if self.steps else event.step
        for tag in (*event.scalars, *event.histograms):
            known = self.steps.get(tag)
            if known is not None or len(self.steps) < _TAGS_MAX:
                self.steps[tag] = _Steps(known.first if known else event.step, event.step)
        if event.scalars:
            self.watch.scalars(event.step, event.wall_time_ns, event.scalars)
        for tag, distribution in event.histograms.items():
            layer = _layer(distribution)
            self.watch.layer(event.step, tag, layer, 0 if _is_finite(distribution) else 1)


class _Folder:
    """The attempts of one folder. All but the last are kept as verdicts and times."""

    def __init__(self, run: str, rules: Iterable[Rule], settings: dict[str, ParameterValue]) -> None:
        self.run = run
        self._rules = tuple(rules)
        self.settings = settings
        self.attempt = _Attempt(self._rules, self.settings)
        self._over: list[tuple[Verdict, _Times]] = []
        self._restarts = self.values = 0
        self._has_settings = self._has_curves = False
        self._is_new_file = True

    @property
    def is_row(self) -> bool:
        """Whether the folder has hyperparameters and no curve. Known after :meth:`verdicts`."""
        return self._has_settings and not self._has_curves

    def begin_file(self) -> None:
        """Take the events of the next file from here on."""
        self._is_new_file = True

    def take(self, event: Watched) -> None:
        """Show an event to the rules, in a new attempt if the run begins again."""
        self.values += event.values
        self._has_settings |= bool(event.settings)
        present, is_new_file = self.attempt, self._is_new_file
        if event.starts:
            if present.steps:
                self._begin_again()
                self.attempt.replaces = True
        elif present.goes_back(event, new_file=is_new_file):
            self._restarts += not is_new_file
            if is_new_file or self._restarts <= RESTARTS_MAX:
                self._begin_again()
        elif is_new_file and present.knows(event):  # the file goes on where the last file ended
            self._is_new_file = False
        self.attempt.take(event)

    def verdicts(self) -> list[Verdict]:
        """Return the verdicts on all attempts, the earliest first."""
        self._end()
        later_ns = -inf
        for verdict, times in reversed(self._over):
            verdict.superseded = later_ns >= times.last_ns
            later_ns = inf if times.replaces else max(later_ns, times.began_ns)
        return [verdict for verdict, _ in self._over]

    def _begin_again(self) -> None:
        self._end()
        self._is_new_file = False
        self.attempt = _Attempt(self._rules, self.settings)

    def _end(self) -> None:
        attempt = self.attempt
        self._has_curves |= attempt.has_curves
        verdict = Verdict(self.run, attempt=len(self._over), last_step=attempt.last_step, last_ns=attempt.last_ns)
        verdict.take(attempt.watch)
        self._over.append((verdict, _Times(attempt.began_ns, attempt.last_ns, attempt.replaces)))


class _Share(NamedTuple):
    """The progress of one file as a part of all files."""

    number: int
    files: int
    progress: Callable[[float], object]

    def show(self, share: float) -> None:
        self.progress((self.number + share) / self.files)


def judge_folder(
    place: EventsPlace,
    rules: Sequence[Rule],
    note: Callable[[str], object],
    progress: Callable[[float], object] = lambda _: None,
) -> list[Verdict]:
    """Return the verdicts on the attempts of a run, from its event files.

    No verdict: there is no event, or the folder is a row of hyperparameters. ``note`` takes lines about what cannot be
    read, ``progress`` the share of the files that was read.
    """
    folder = _Folder(place.run, rules, _settings_beside(place.files[0].parent))
    reader = EventReader()
    for number, path in enumerate(place.files):
        share = _Share(number, len(place.files), progress)
        try:
            _read_file(path, folder, reader, place.part, note, share.show)
        except (OSError, ValueError) as error:
            note(f"{path.name} cannot be read: {error}")
    verdicts = folder.verdicts()
    if not folder.values:
        note("its event files hold no values")
        return []
    only_recorded = {rule.name: rule for rule in rules if rule.roles <= _ONLY_RECORDED}
    for verdict in verdicts:
        verdict.findings = [replace(one, tag=one.tag.removeprefix(place.part)) for one in verdict.findings]
        verdict.not_checked = [
            one if one.rule not in only_recorded else one._replace(reason=_only_recorded(only_recorded[one.rule]))
            for one in verdict.not_checked
        ]
    return [] if folder.is_row else verdicts


def _read_file(
    path: Path,
    folder: _Folder,
    reader: EventReader,
    part: str,
    note: Callable[[str], object],
    progress: Callable[[float], object],
) -> None:
    size, read = path.stat().st_size, 0
    folder.begin_file()
    for number, item in enumerate(read_payloads(path)):
        if isinstance(item, str):
            note(f"{path.name}: {item}")
            continue
        read += len(item)
        try:
            folder.take(reader.read(item, part))
        except ProtocolError as error:
            note(f"{path.name}: {error}")
        if number % _PROGRESS_EVENTS == 0:
            progress(read / max(size, read, 1))


def _settings_beside(folder: Path) -> dict[str, ParameterValue]:
    """Return the hyperparameters of a run from its row in a folder beside; none where the run has several rows."""
    found: list[dict[str, ParameterValue]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        rows = (entry for entry in entries if _ROW.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False))
        for row in islice(rows, _ROWS_MAX):
            settings: dict[str, ParameterValue] = {}
            for name in names_in(Path(row.path))[:1]:
                settings = _first_settings(Path(row.path, name))
            if settings:
                found.append(settings)
    return found[0] if len(found) == 1 else {}


def _first_settings(path: Path) -> dict[str, ParameterValue]:
    """Return the hyperparameters in the first events of a file; none where the file cannot be read."""
    reader, settings = EventReader(), dict[str, ParameterValue]()
    with suppress(OSError, ProtocolError):
        if stat.S_ISREG(path.lstat().st_mode):
            for item in islice(read_payloads(path), _ROW_EVENTS):
                if isinstance(item, memoryview):
                    settings |= reader.read(item).settings
    return settings


def _only_recorded(rule: Rule) -> str:
    return f"only a recording holds the {' and the '.join(sorted(role.removeprefix('the ') for role in rule.roles))}"


def _layer(distribution: Distribution) -> Layer:
    """Return the layer of a histogram; one without finite moments has no values."""
    if not _is_finite(distribution):
        return Layer(0, 0, 0.0, 0.0, 0.0, 0)
    count, minimum, maximum, total, squares = distribution
    rms = (squares / count) ** 0.5 if count > 0 and squares >= 0 else 0.0
    return Layer(int(count), 0, rms, minimum, maximum, fingerprint(total, squares, minimum, maximum))


def _is_finite(distribution: Distribution) -> bool:
    return all(map(isfinite, distribution))
