"""Folders of event files: attempts, hyperparameters, and files that cannot be read."""

from pathlib import Path
from typing import Any

import pytest
from support.records.foreign_files import curve, point, session_start, write_events
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import HistogramProto, Summary
from tensorboardX.summary import hparams

from tensorboard_sidecar.logger_service.doctor.event_folders import RESTARTS_MAX, judge_folder
from tensorboard_sidecar.logger_service.doctor.places import EventsPlace
from tensorboard_sidecar.logger_service.doctor.verdict import Verdict
from tensorboard_sidecar.logger_service.findings.facts import Facts
from tensorboard_sidecar.logger_service.findings.roles import Role
from tensorboard_sidecar.logger_service.findings.rule import Measure, Measured, Rule
from tensorboard_sidecar.logger_service.findings.samples import Layers, NonFinite, Points, Sample
from tensorboard_sidecar.logger_service.findings.watch import CHUNK_POINTS

NAN = float("nan")


def make_rule(name: str, role: Role, measure: Any, **settings: Any) -> Rule:
    return Rule(
        name=name,
        severity="error",
        roles=frozenset({role}),
        formula="",
        enter=0.5,
        clear=0.4,
        needs="values",
        advice="Look. Think.",
        source="a test",
        measure=measure,
        warm_up=False,
        **settings,
    )


def not_finite(_facts: Facts) -> Measure:
    def measure(sample: Sample) -> list[Measured]:
        assert isinstance(sample, NonFinite)
        return [Measured(sample.tag, sample.step, float(sample.non_finite), {"values": float(sample.non_finite)})]

    return measure


def points_so_far(facts: Facts) -> Measure:
    """Measure how many points of a curve an attempt has had, and from which step on."""
    seen = 0

    def measure(sample: Sample) -> list[Measured]:
        nonlocal seen
        assert isinstance(sample, Points)
        seen += len(sample.values)
        evidence = {"points": float(seen), "first": float(facts.first_step), "lr": facts.number("lr") or 0.0}
        return [Measured(sample.tag, sample.steps[-1], float(seen), evidence)]

    return measure


def layers(_facts: Facts) -> Measure:
    def measure(sample: Sample) -> list[Measured]:
        assert isinstance(sample, Layers)
        return [Measured(tag, sample.step, layer.rms, {"rms": layer.rms}) for tag, layer in sample.layers.items()]

    return measure


FINITE = make_rule("finite", Role.ANY_VALUE, not_finite)
COUNT = make_rule("count", Role.LOSS, points_so_far)
RMS = make_rule("rms", Role.WEIGHTS, layers, together=True)
MISSING = make_rule("missing", Role.STREAM, points_so_far)


def judge(folder: Path, *rules: Rule, part: str = "") -> tuple[list[Verdict], list[str]]:
    notes: list[str] = []
    files = tuple(sorted(folder.glob("events.*")))
    return judge_folder(EventsPlace("run", files, part), rules or (FINITE,), notes.append), notes


def found(verdicts: list[Verdict]) -> list[list[tuple[str, int]]]:
    """Return tag and first step of each finding, attempt by attempt."""
    return [[(finding.tag, finding.first_step) for finding in verdict.findings] for verdict in verdicts]


def points(verdicts: list[Verdict]) -> list[int]:
    """Return the number of points that each attempt was judged by, where more than one chunk was logged."""
    return [verdict.findings[0].count for verdict in verdicts]


def test_all_files_of_a_folder_are_one_run_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_events(tmp_path, curve("loss", [1.0] * 20, first_step=20), "2")
    write_events(tmp_path, curve("loss", [1.0] * 20), "1")
    ((verdict,), notes) = judge(tmp_path, COUNT)
    assert (verdict.findings[0].peak, verdict.findings[0].evidence["first"]) == (40.0, 0.0)
    assert (verdict.last_step, verdict.attempt, verdict.superseded, notes) == (39, 0, False, [])


def test_a_value_that_is_not_finite_is_found_with_its_step(tmp_path: Path) -> None:
    write_events(tmp_path, [*curve("loss", [1.0, 2.0, NAN, NAN]), point("acc", 4, float("inf"))])
    verdicts, _ = judge(tmp_path)
    assert found(verdicts) == [[("loss", 2), ("acc", 4)]]


def test_a_histogram_is_judged_by_its_moments(tmp_path: Path) -> None:
    histogram = HistogramProto(min=-1, max=1, num=4, sum=0, sum_squares=4, bucket_limit=[1], bucket=[4])
    broken = HistogramProto(min=NAN, max=1, num=4, sum=NAN, sum_squares=4, bucket_limit=[1], bucket=[4])
    values = [Summary.Value(tag="a.weight", histo=histogram), Summary.Value(tag="b.weight", histo=broken)]
    write_events(tmp_path, [Event(step=5, wall_time=1.0, summary=Summary(value=values))])
    ((verdict,), _) = judge(tmp_path, RMS, FINITE)
    assert {(one.rule, one.tag, one.first_step) for one in verdict.findings} == {
        ("rms", "a.weight", 5),
        ("finite", "b.weight", 5),
    }


@pytest.mark.parametrize(
    "files",
    [
        [[*curve("loss", [NAN] * 9)], [session_start(0), *curve("loss", [1.0] * 9)]],
        [[*curve("loss", [NAN] * 9)], [*curve("loss", [1.0] * 9, later_seconds=100)]],
        [
            [*curve("loss", [NAN] * 9)],
            [point("new", 5, 1.0, later_seconds=100), point("loss", 7, 1, later_seconds=100)],
        ],
        [[*curve("loss", [NAN] * 9), *curve("loss", [1.0] * 9, later_seconds=100)]],
    ],
    ids=["session start", "steps from 0", "steps from a checkpoint", "one file"],
)
def test_a_run_that_begins_again_ends_the_findings_of_what_was_before(tmp_path: Path, files: list[Any]) -> None:
    for number, events in enumerate(files):
        write_events(tmp_path, events, str(number))
    verdicts, _ = judge(tmp_path)
    assert found(verdicts) == [[("loss", 0)], []]
    assert [verdict.superseded for verdict in verdicts] == [True, False]
    assert [verdict.attempt for verdict in verdicts] == [0, 1]


def test_a_file_that_goes_on_at_the_next_step_is_the_same_attempt(tmp_path: Path) -> None:
    write_events(tmp_path, [session_start(0), *curve("loss", [1.0] * 9)], "1")
    write_events(tmp_path, [*curve("loss", [NAN] * 9, first_step=9), point("loss", 12, 1.0)], "2")
    verdicts, _ = judge(tmp_path)
    assert found(verdicts) == [[("loss", 9)]]


def test_processes_that_write_into_one_folder_do_not_end_each_others_findings(tmp_path: Path) -> None:
    """All ranks of a training, each with a file of its own, at the same time."""
    for rank in range(3):
        write_events(tmp_path, curve("loss", [NAN if rank == 0 else 1.0] * 9), f"rank{rank}")
    verdicts, _ = judge(tmp_path)
    assert found(verdicts) == [[("loss", 0)], [], []]
    assert not any(verdict.superseded for verdict in verdicts)


def test_steps_that_begin_again_with_every_epoch_are_judged_in_one_piece_after_some(tmp_path: Path) -> None:
    epochs = 6
    write_events(tmp_path, [one for _ in range(epochs) for one in curve("loss", [1.0] * CHUNK_POINTS)])
    verdicts, _ = judge(tmp_path, COUNT)
    assert [verdict.findings[0].peak for verdict in verdicts] == [CHUNK_POINTS] * RESTARTS_MAX + [4 * CHUNK_POINTS]


def test_points_that_come_a_little_late_do_not_begin_a_run_again(tmp_path: Path) -> None:
    steps = [0, 1, 3, 2, 4, 6, 5]
    write_events(tmp_path, [point("loss", step, 1.0) for step in steps])
    verdicts, _ = judge(tmp_path)
    assert len(verdicts) == 1


def test_a_validation_that_counts_epochs_does_not_begin_a_run_again(tmp_path: Path) -> None:
    events = [*curve("loss", [1.0] * 9), point("val_loss", 0, 1), *curve("loss", [1.0] * 9, first_step=9)]
    write_events(tmp_path, [*events, point("val_loss", 1, 1)])
    assert len(judge(tmp_path)[0]) == 1


def test_the_values_of_a_part_of_a_run_are_its_validation(tmp_path: Path) -> None:
    """As Keras and ``add_scalars`` write them; the finding has the tag that TensorBoard shows."""
    write_events(tmp_path, curve("loss", [NAN, NAN]))
    (verdict,), _ = judge(tmp_path, COUNT, FINITE, part="validation/")
    assert [one.rule for one in verdict.not_checked] == ["count"]
    assert found([verdict]) == [[("loss", 0)]]


def test_hyperparameters_of_the_run_are_known_to_the_rules(tmp_path: Path) -> None:
    _, start, _ = hparams({"lr": 0.25}, {})
    write_events(tmp_path, [Event(summary=start), *curve("loss", [1.0] * 20, first_step=3)])
    ((verdict,), _) = judge(tmp_path, COUNT)
    assert verdict.findings[0].evidence.items() >= {"first": 3.0, "lr": 0.25}.items()


def test_the_row_of_hyperparameters_beside_is_known_and_no_run(tmp_path: Path) -> None:
    _, start, end = hparams({"lr": 0.25}, {"accuracy": 0.5})
    row = [Event(summary=start), Event(summary=end), point("accuracy", 0, NAN)]
    write_events(tmp_path, curve("loss", [1.0] * 20))
    write_events(tmp_path / "1700000000.5", row)
    assert judge(tmp_path / "1700000000.5") == ([], [])
    assert judge(tmp_path, COUNT)[0][0].findings[0].evidence["lr"] == 0.25
    write_events(tmp_path / "1700000001.5", row)  # two trials: which is the run's?
    assert judge(tmp_path, COUNT)[0][0].findings[0].evidence["lr"] == 0.0


def test_what_only_recordings_hold_is_said(tmp_path: Path) -> None:
    write_events(tmp_path, curve("loss", [1.0] * 20))
    ((verdict,), _) = judge(tmp_path, MISSING)
    assert verdict.not_checked == [("missing", "only a recording holds the stream of records")]


def test_a_torn_tail_costs_the_tail_and_is_said(tmp_path: Path) -> None:
    path = write_events(tmp_path, curve("loss", [1.0, NAN, 1.0]))
    path.write_bytes(path.read_bytes()[:-7])
    verdicts, notes = judge(tmp_path)
    assert found(verdicts) == [[("loss", 1)]]
    (note,) = notes
    assert "cut off" in note


def test_a_wrong_checksum_costs_one_event_and_is_said(tmp_path: Path) -> None:
    path = write_events(tmp_path, curve("loss", [1.0, 2.0, NAN]))
    data = bytearray(path.read_bytes())
    data[data.index(b"loss")] ^= 1
    path.write_bytes(data)
    verdicts, notes = judge(tmp_path)
    assert found(verdicts) == [[("loss", 2)]]
    (note,) = notes
    assert "bad payload checksum" in note


@pytest.mark.parametrize("rubbish", [b"", b"hello world, this is a text", bytes(4096), bytes(range(256)) * 9])
def test_a_file_of_rubbish_is_said_and_the_others_are_judged(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / "events.out.tfevents.0").write_bytes(rubbish)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "events.out.tfevents.0").write_bytes(rubbish)
    write_events(tmp_path, curve("loss", [NAN]))
    verdicts, notes = judge(tmp_path)
    assert found(verdicts) == [[("loss", 0)]]
    assert len(notes) == bool(rubbish)
    verdicts, notes = judge(tmp_path / "alone")
    assert verdicts == []
    assert "hold no values" in notes[-1]


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    path = write_events(tmp_path, curve("loss", [NAN]))
    notes: list[str] = []
    verdicts = judge_folder(EventsPlace("run", (path, tmp_path / "gone")), (FINITE,), notes.append)
    assert found(verdicts) == [[("loss", 0)]]
    (note,) = notes
    assert note.startswith("gone cannot be read")
