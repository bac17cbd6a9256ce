"""The oracle itself: it says no to a logger that acknowledges before the sync, and to each kind of wrong there is."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from faults.harness.acknowledged import check_acknowledged, promised
from faults.harness.diary import TAG, Returned
from faults.harness.oracle import CALL_MAX_SECONDS, START_MAX_SECONDS, Verdict, check, events_of
from faults.harness.struck_logger import PowerLoss, Unlucky, lost
from faults.harness.trainers import Trainers
from support.logger.peer import Peer
from support.records.events import event_files, load_events
from support.records.recordings import (
    START_NS,
    Said,
    append_records,
    every_kind,
    make_records,
    make_stream,
    write_recording,
)
from support.running.programs import LoggerProcess

from tensorboard_sidecar.logger_service.events.to_events import project
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.frame import Frame, pack_frame, read_frames
from tensorboard_sidecar.protocol.messages import Gap, RunEnd, RunStart, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.stream import Stream

PROGRAM = str(Path(__file__).parent / "harness" / "killed_at_bye_program.py")
STREAM = make_stream()
LAST = 20
STEPS = 1000
# Every run of ten records is a commit; the sync of the first is that of the segment's head too.
IN_TWO_COMMITS, IN_THREE_COMMITS = 21, 31
# For an acknowledgement that left before the disk hung, it is there long before.
ACKS_SECONDS = 0.5


def kill_behind_the_last_acknowledgement(logger: LoggerProcess, trainers: Trainers, kind: str) -> None:
    """Have the logger die when its trainer has just left in order, and all it was told is on disk must be."""
    program, logger.program = logger.program, [sys.executable, PROGRAM, kind]
    logger.start()
    trainer = trainers.start("acknowledged", logger.endpoint, steps=STEPS)
    trainer.process.join(60)
    assert trainer.process.exitcode == 0, "all of it was acknowledged"
    assert logger.process is not None
    assert logger.process.wait(60) == -signal.SIGKILL
    logger.program = program
    logger.start()
    assert logger.stop() == 0


def test_it_agrees_when_acknowledged_means_on_disk(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    kill_behind_the_last_acknowledgement(logger, trainers, "honest")
    assert judge().replayed == STEPS + 2


def test_it_says_no_when_the_acknowledgement_comes_before_the_write(
    logger: LoggerProcess, trainers: Trainers, judge: Callable[..., Verdict]
) -> None:
    kill_behind_the_last_acknowledgement(logger, trainers, "early")
    with pytest.raises(AssertionError, match=rf"numbers are promised and not there: .* {STEPS + 2}"):
        judge()


def lose_power_in_a_sync(logger: LoggerProcess, folder: Path, *, early_acks: bool) -> tuple[PowerLoss, Peer]:
    """Have the power go while the third commit of a stream is in its sync; return who was told what by then.

    Nothing depends on luck: the disk hangs in that sync, and afterwards holds what was durable before it, no more.
    """
    power = PowerLoss(logger, folder / "notes", Unlucky(1), hang_at_sync=3, early_acks=early_acks)
    peer = Peer(logger.endpoint, Stream("power"))
    peer.deliver(IN_TWO_COMMITS, records_a_run=10, window=1)
    peer.send_records(IN_TWO_COMMITS, IN_THREE_COMMITS)
    power.wait_until_it_hangs()
    with suppress(TimeoutError):
        while True:
            peer.receive(ACKS_SECONDS)
    power.strike()
    return power, peer


def test_what_was_acknowledged_survives_a_power_loss_in_a_sync(logger: LoggerProcess, tmp_path: Path) -> None:
    power, peer = lose_power_in_a_sync(logger, tmp_path, early_acks=False)
    assert peer.acked_sequence == IN_TWO_COMMITS
    assert lost(logger, {peer.stream: peer.acked_sequence}) == {}
    power.restore(hang_at_sync=0)
    peer.deliver(IN_THREE_COMMITS)
    peer.close()
    assert logger.stop() == 0
    check_acknowledged({peer.stream: IN_THREE_COMMITS}, logger.recordings, logger.logdir)


def test_a_power_loss_in_a_sync_finds_out_who_acknowledges_before_it(logger: LoggerProcess, tmp_path: Path) -> None:
    """The one line that must not move: with the acknowledgement in front of the sync, records are lost."""
    _, peer = lose_power_in_a_sync(logger, tmp_path, early_acks=True)
    assert peer.acked_sequence == IN_THREE_COMMITS
    assert lost(logger, {peer.stream: peer.acked_sequence}) == {"power": set(range(IN_TWO_COMMITS, IN_THREE_COMMITS))}
    peer.close()
    with pytest.raises(AssertionError, match=r"10 numbers are promised and not there: 21, .* 30"):
        check(promised({peer.stream: peer.acked_sequence}), logger.recordings, None)


def say(number: int, value: float | None = None) -> Said:
    return Said(number, Scalars({TAG: float(number) if value is None else value}))


def judge_records(folder: Path, said: list[Said], *, last: int = LAST, events_of: list[Said] | None = None) -> Verdict:
    """Judge a recording of ``said`` and event files made of ``events_of``, or of the same."""
    write_recording(folder / "recordings", said, STREAM)
    source = write_recording(folder / "others", events_of or said, STREAM)
    replay([source], folder / "runs")
    return check([Returned.up_to(STREAM.id, last)], folder / "recordings", folder / "runs")


def everything() -> list[Said]:
    return [say(number) for number in range(1, LAST + 1)]


def test_it_agrees_with_what_is_right(tmp_path: Path) -> None:
    assert judge_records(tmp_path, everything()).replayed == LAST


def test_it_knows_that_an_attempt_that_logs_nothing_is_not_shown(tmp_path: Path) -> None:
    said = [Said(0, RunStart(0, {"lr": 0.1})), Said(0, RunEnd("failed"))]
    assert judge_records(tmp_path, said, last=2).events == 0
    with pytest.raises(AssertionError, match=r"3 events are in event files and not due"):
        judge_records(tmp_path / "shown", said, last=2, events_of=[*said[:1], say(2)])


def test_it_takes_the_record_of_a_call_that_a_kill_caught(tmp_path: Path) -> None:
    assert judge_records(tmp_path, everything(), last=LAST - 1).replayed == LAST


@pytest.mark.parametrize(
    ("said", "last", "events_of", "reason"),
    [
        (everything(), LAST + 1, everything(), "1 numbers are promised and not there: 21"),
        (everything(), LAST - 2, everything(), "1 numbers are there and not promised: 20"),
        ([*everything()[:-1], say(LAST, 7.0)], LAST, everything(), "sequence 20 holds 7.0"),
        (everything(), LAST, everything()[:-1], r"1 events are due and not in event files: \(20, 0\)"),
        (everything()[:-1], LAST - 1, everything(), r"1 events are in event files and not due: \(20, 0\)"),
        ([*everything()[:-1], Said(LAST, Gap("the outbox was full"))], LAST, None, "a gap: the outbox was full"),
    ],
    ids=["lost", "invented", "another value", "event lost", "event invented", "refused"],
)
def test_it_says_no(tmp_path: Path, said: list[Said], last: int, events_of: list[Said] | None, reason: str) -> None:
    with pytest.raises(AssertionError, match=reason):
        judge_records(tmp_path, said, last=last, events_of=events_of)


def test_it_says_no_when_a_record_lacks_its_last_event(tmp_path: Path) -> None:
    """The start of a run has two, the second for its config."""
    started = [Said(0, RunStart(0, {"lr": 0.1})), say(2)]
    judge_records(tmp_path / "whole", started, last=2)
    [path] = event_files(tmp_path / "whole" / "runs" / STREAM.run)
    data, events = path.read_bytes(), load_events(path)
    [at] = [number for number, event in enumerate(events) if b"run/config" in event.SerializeToString()]
    starts = [0, *(frame.end for frame in read_frames(memoryview(data)) if isinstance(frame, Frame))]
    path.write_bytes(data[: starts[at]] + data[starts[at + 1] :])
    with pytest.raises(AssertionError, match=r"1 events are due and not in event files: \(1, 1\)"):
        check([Returned.up_to(STREAM.id, 2)], tmp_path / "whole" / "recordings", tmp_path / "whole" / "runs")


FOUND = [*everything()[:5], Said(6, Scalars({TAG: 6.0, "loss": float("nan")})), Said(7, RunEnd("failed"))]


def test_it_agrees_with_findings(tmp_path: Path) -> None:
    assert judge_records(tmp_path, FOUND, last=7).events == 7 + 2


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        ([6], r"1 events are due and not in event files: \(6, 1\)"),
        ([5], r"1 events are due and not in event files: \(6, 0\)"),
        ([8], r"1 events are due and not in event files: \(7, 1\)"),
        ([5, 6], r"1 events are due and not in event files: \(6, 0\)"),
    ],
    ids=["findings lost", "a record lost", "the findings at the end lost", "a record and its findings lost"],
)
def test_it_says_no_to_findings_that_are_lost(tmp_path: Path, left_out: list[int], reason: str) -> None:
    judge_records(tmp_path, FOUND, last=7)
    [path] = event_files(tmp_path / "runs" / STREAM.run)
    data = path.read_bytes()
    starts = [0, *(frame.end for frame in read_frames(memoryview(data)) if isinstance(frame, Frame))]
    frames = [data[start:end] for start, end in pairwise(starts)]
    path.write_bytes(b"".join(frame for at, frame in enumerate(frames, -1) if at not in left_out))
    with pytest.raises(AssertionError, match=reason):
        check([Returned.up_to(STREAM.id, 7)], tmp_path / "recordings", tmp_path / "runs")


def test_it_says_no_to_findings_that_nothing_announced(tmp_path: Path) -> None:
    judge_records(tmp_path, FOUND, last=7)
    [path] = event_files(tmp_path / "runs" / STREAM.run)
    events = load_events(path)
    for event in events:
        if event.WhichOneof("what") == "summary":
            event.summary.value[0].node_name = event.summary.value[0].node_name.removesuffix("+")
    path.write_bytes(b"".join(pack_frame(event.SerializeToString()) for event in events))
    with pytest.raises(AssertionError, match=r"findings of 2 events are announced and not there, or the other way"):
        check([Returned.up_to(STREAM.id, 7)], tmp_path / "recordings", tmp_path / "runs")


def test_it_knows_how_many_events_a_record_of_any_kind_has() -> None:
    """It says so by itself; the program that it judges agrees."""
    said = every_kind()
    for (_, message), record in zip(said, make_records(said), strict=True):
        assert len(project(message, record, STREAM.id).events) == events_of(message), message


def test_it_says_no_to_events_that_come_twice_and_to_flipped_bits(tmp_path: Path) -> None:
    judge_records(tmp_path, everything())
    [path] = event_files(tmp_path / "runs" / STREAM.run)
    whole = path.read_bytes()
    path.with_name(f"{path.name}x").write_bytes(whole)
    with pytest.raises(AssertionError, match="20 events come twice"):
        judge_again(tmp_path)
    path.with_name(f"{path.name}x").unlink()
    path.write_bytes(whole[:-10] + bytes([whole[-10] ^ 1]) + whole[-9:])
    with pytest.raises(AssertionError, match="wrong checksum of an event"):
        judge_again(tmp_path)


def judge_again(folder: Path) -> Verdict:
    return check([Returned.up_to(STREAM.id, LAST)], folder / "recordings", folder / "runs")


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [
        ({"slowest_seconds": 2 * CALL_MAX_SECONDS}, r"a call took 2\.000 s"),
        ({"start_seconds": 2 * START_MAX_SECONDS}, r"the start took 10\.000 s"),
    ],
    ids=["call", "start"],
)
def test_it_says_no_to_a_call_that_waited(tmp_path: Path, seconds: dict[str, float], reason: str) -> None:
    judge_records(tmp_path, everything())
    with pytest.raises(AssertionError, match=reason):
        check([replace(Returned.up_to(STREAM.id, LAST), **seconds)], tmp_path / "recordings", tmp_path / "runs")


def test_it_takes_a_hostile_stream_at_its_word_and_no_other(tmp_path: Path) -> None:
    """Gaps for any reason, and bodies that say nothing: each is there, once, and more nobody can ask."""
    records = make_records([*everything()[:-2], Said(LAST - 1, Gap("why not"))])
    records.append(Record(Kind.SCALARS, LAST, LAST, START_NS, b"\xc1"))
    append_records(tmp_path / "recordings" / STREAM.run / STREAM.folder_name, STREAM, records)
    replay([tmp_path / "recordings"], tmp_path / "runs")
    hostile = Returned.up_to(STREAM.id, LAST, hostile=True)
    assert check([hostile], tmp_path / "recordings", tmp_path / "runs").gaps == 1
    with pytest.raises(AssertionError, match=r"a gap: why not\n.*sequence 20 is malformed"):
        check([replace(hostile, hostile=False)], tmp_path / "recordings", tmp_path / "runs")
