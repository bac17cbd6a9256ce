from tensorboard_sidecar.trainer.data.limits import EXAMPLES_NAMED
from tensorboard_sidecar.trainer.data.report import (
    DataReport,
    EpochCounts,
    EpochNotes,
    Problem,
    Tally,
    printable,
    sum_counts,
)


def test_every_fault_is_counted_and_the_first_ten_are_named() -> None:
    tally = Tally()
    for number in range(25):
        tally.add("pictures missing", f"{number}.jpg")
    tally.add("pictures broken", "x.jpg")
    missing, broken = tally.problems()
    assert (missing.count, len(missing.examples)) == (25, EXAMPLES_NAMED)
    assert str(missing).startswith("25 pictures missing: 0.jpg, 1.jpg")
    assert str(missing).endswith("9.jpg, ...")
    assert str(broken) == "1 pictures broken: x.jpg"


def test_names_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2J\nb") == "a\\x1b[2J\\nb"
    assert printable("狗 كلب é") == "狗 كلب é"
    assert len(printable("x" * 500)) == 200


def test_a_report_gives_notes_first() -> None:
    report = DataReport(("a note",), (Problem("faults", 1, ("a",)),))
    assert report.lines() == ("a note", "1 faults: a")


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
