"""Trains sick and healthy runs, judges them, and prints which rule finds which sickness: ``make sick``.

    PYTHONPATH=tests python -m findings.confusion FOLDER [--seeds 5] [--only NAME ...] [--write docs/FINDINGS.md]

Recordings that are in FOLDER already are judged again, and not made again. Two processes train.
"""

import argparse
import multiprocessing
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final, NamedTuple

from findings.judging import Verdict, judge
from findings.sicknesses import HEALTHY, SICKNESSES, Sickness
from findings.training import DEMO, RESUMED, data_set, train_once

from tensorboard_sidecar.logger_service.findings.rule import rounded
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES

SEEDS: Final = 5
# Runs of each kind of healthy training.
HEALTHY_RUNS: Final = {**dict.fromkeys(HEALTHY, SEEDS), "bf16": 2, RESUMED: 2, DEMO: 1}
BEGIN: Final = "<!-- confusion table, written by make sick -->"
END: Final = "<!-- end of the confusion table -->"
PROCESSES: Final = 2


class Job(NamedTuple):
    """One run: a sickness or a kind of healthy training, with a seed."""

    name: str
    seed: int

    def folder(self, root: Path) -> Path:
        """Return the folder of the run's recordings."""
        return root / self.name / str(self.seed)


def jobs(seeds: int, only: Sequence[str] = ()) -> list[Job]:
    """Return all runs, the first seed of each kind first."""
    kinds = {**{one.name: SEEDS for one in SICKNESSES}, **HEALTHY_RUNS}
    found = [Job(name, seed) for seed in range(seeds) for name, runs in kinds.items() if seed < runs]
    return [job for job in found if not only or job.name in only]


def run(job: Job, root: Path) -> tuple[Job, Verdict]:
    """Train one run, if its recordings are not there, and judge it."""
    folder = job.folder(root)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        train_once(job.name, job.seed, data_set(root / "data"), folder)
    return job, judge(folder)


def run_all(todo: Iterable[Job], root: Path, processes: int = PROCESSES) -> dict[Job, Verdict]:
    """Run all jobs, some at a time, and say of each what it found."""
    data_set(root / "data")
    context, verdicts = multiprocessing.get_context("spawn"), dict[Job, Verdict]()
    with ProcessPoolExecutor(processes, context) as pool:
        for future in as_completed([pool.submit(run, job, root) for job in todo]):
            job, verdict = future.result()
            verdicts[job] = verdict
            said = (f"{rule} at {one.at}" for rule, one in verdict.by_rule().items())
            print(f"{job.name} {job.seed}: {', '.join(said) or 'nothing'}", flush=True)
    return dict(sorted(verdicts.items()))


def table(verdicts: Mapping[Job, Verdict]) -> str:
    """Return the tables as markdown."""
    by_name: defaultdict[str, list[Verdict]] = defaultdict(list)
    for job, verdict in verdicts.items():
        by_name[job.name].append(verdict)
    healthy = [verdict for name, found in by_name.items() if name in HEALTHY_RUNS for verdict in found]
    return "\n".join(
        [
            *_promises(by_name),
            "",
            *_confusion(by_name, healthy),
            "",
            *_margins(by_name, healthy),
            "",
            *_unchecked(verdicts),
        ]
    )


def _promises(by_name: Mapping[str, list[Verdict]]) -> Iterable[str]:
    yield "| | sickness | what is wrong | found by | runs | opened at step | promised by step |"
    yield "| --: | :-- | :-- | :-- | --: | --: | --: |"
    for number, sick in enumerate(SICKNESSES, 1):
        found = by_name.get(sick.name, [])
        steps = sorted(step for verdict in found if (step := found_at(sick, verdict)) is not None)
        in_time = sum(step <= sick.by for step in steps)
        opened = f"{steps[0]} to {steps[-1]}" if steps else "never"
        rules = ", ".join(f"`{rule}`" for rule in sick.finds) or "no rule"
        yield f"| {number} | {sick.name} | {sick.what} | {rules} | {in_time} of {len(found)} | {opened} | {sick.by} |"


def found_at(sick: Sickness, verdict: Verdict) -> int | None:
    """Return the step at which the right finding opened, or None."""
    right = (one.at for one in verdict.opened if one.finding.rule in sick.finds and sick.tag in one.finding.tag)
    return min((at for at in right if at >= sick.begins), default=None)


def _confusion(by_name: Mapping[str, list[Verdict]], healthy: Sequence[Verdict]) -> Iterable[str]:
    columns = [by_name.get(sick.name, []) for sick in SICKNESSES]
    yield f"| rule | severity | {' | '.join(map(str, range(1, len(columns) + 1)))} | healthy |"
    yield f"| :-- | :-- |{' --: |' * (len(columns) + 1)}"
    for rule in RULES:
        cells = []
        for sick, verdicts in zip(SICKNESSES, columns, strict=True):
            count = sum(rule.name in verdict.by_rule() for verdict in verdicts)
            cells.append(f"**{count}**" if rule.name in sick.finds else str(count or ""))
        count = sum(rule.name in verdict.by_rule() for verdict in healthy)
        if any(cells) or count:
            yield f"| `{rule.name}` | {rule.severity} | {' | '.join(cells)} | {count} of {len(healthy)} |"


def _margins(by_name: Mapping[str, list[Verdict]], healthy: Sequence[Verdict]) -> Iterable[str]:
    yield "| rule | opens | nearest healthy run | its sickness | mildest sick run |"
    yield "| :-- | --: | --: | :-- | --: |"
    for rule in RULES:
        grows = rule.enter >= rule.clear
        worst, mildest = (max, min) if grows else (min, max)
        near = [verdict.nearest[rule.name] for verdict in healthy if rule.name in verdict.nearest]
        sick = [one for one in SICKNESSES if rule.name in one.finds]
        values = {
            one.name: [
                verdict.nearest[rule.name] for verdict in by_name.get(one.name, []) if rule.name in verdict.nearest
            ]
            for one in sick
        }
        opens = f"{'above' if grows else 'below'} {rule.enter:g}"
        nearest = f"{rounded(worst(near)):g}" if near else "no measure"
        names = ", ".join(values) or "none here"
        mild = ", ".join(f"{rounded(mildest(found)):g}" if found else "no measure" for found in values.values())
        yield f"| `{rule.name}` | {opens} | {nearest} | {names} | {mild} |"


def _unchecked(verdicts: Mapping[Job, Verdict]) -> Iterable[str]:
    every = [verdict.not_checked for verdict in verdicts.values()]
    never = sorted(rule.name for rule in RULES if every and all(rule.name in reasons for reasons in every))
    if never:
        yield f"No run here has what these rules need: {', '.join(f'`{name}`' for name in never)}."


def false_alarms(verdicts: Mapping[Job, Verdict]) -> list[str]:
    """Return the findings above information in healthy runs."""
    return [
        f"{job.name} {job.seed}: at step {opened.at}: {opened.finding}"
        for job, verdict in verdicts.items()
        if job.name in HEALTHY_RUNS
        for opened in verdict.opened
        if opened.finding.severity != "info"
    ]


def missed(verdicts: Mapping[Job, Verdict]) -> list[str]:
    """Return the sick runs in which the right finding did not open within its window."""
    sick = {one.name: one for one in SICKNESSES}
    found = {job: found_at(sick[job.name], verdict) for job, verdict in verdicts.items() if job.name in sick}
    return [
        f"{job.name} {job.seed}: {'never' if step is None else f'at {step}'}"
        for job, step in found.items()
        if step is None or step > sick[job.name].by
    ]


def write(page: Path, text: str) -> None:
    """Replace what is between the markers of a page."""
    before, found, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{page} has no lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Run, and print the tables; return 1 when a sickness was missed or a healthy run has a warning."""
    parser = argparse.ArgumentParser("python -m findings.confusion", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=PROCESSES)
    parser.add_argument("--only", nargs="*", default=())
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    verdicts = run_all(jobs(options.seeds, options.only), options.folder, options.processes)
    text = table(verdicts)
    print(f"\n{text}\n")
    wrong = [
        *(f"missed: {line}" for line in missed(verdicts)),
        *(f"false alarm: {line}" for line in false_alarms(verdicts)),
    ]
    print("\n".join(wrong))
    if options.write is not None:
        write(options.write, text)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
