from tensorboard_sidecar.trainer.data.epoch_counts import EpochCounts, EpochNotes, sum_counts
from tensorboard_sidecar.trainer.data.report import Problem

BROKEN = Problem("files unreadable", 1, ("a.jpg",))


def test_what_several_processes_saw_is_one_count_with_the_first_names() -> None:
    many = Problem("files unreadable", 12, tuple(f"{n}.jpg" for n in range(10)))
    other = Problem("files too small", 1, ("b.wav",))
    seen = sum_counts((EpochCounts(8, 1, (BROKEN,)), EpochCounts(6, 0, ()), EpochCounts(7, 2, (other, many))))
    assert (seen.pairs, seen.cut) == (21, 3)
    assert seen.problems == (Problem("files unreadable", 13, ("a.jpg", *many.examples[:9])), other)


def test_recordings_that_are_cut_are_told_once() -> None:
    notes = EpochNotes(max_seconds=2.5)
    assert notes.lines(EpochCounts(8, 0, ())) == ()
    assert notes.lines(EpochCounts(8, 3, ())) == (
        "3 of 8 recordings are longer than 2.5 s, and are cut there (--max_seconds)",
    )
    assert notes.lines(EpochCounts(8, 4, ())) == ()


def test_problems_are_told_again_only_when_there_are_more() -> None:
    notes = EpochNotes(max_seconds=10)
    assert notes.lines(EpochCounts(8, 0, (BROKEN,))) == ("1 files unreadable: a.jpg",)
    assert notes.lines(EpochCounts(8, 0, (BROKEN,))) == ()
    assert len(notes.lines(EpochCounts(8, 0, (BROKEN, Problem("others", 2, ("b",)))))) == 2
