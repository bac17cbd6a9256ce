from tensorboard_sidecar.trainer.data.report import Problem
from tensorboard_sidecar.trainer.data.seen import Seen, SeenNotes, seen_together

BROKEN = Problem("files unreadable", 1, ("a.jpg",))


def test_what_several_processes_saw_is_one_count_with_the_first_names() -> None:
    many = Problem("files unreadable", 12, tuple(f"{n}.jpg" for n in range(10)))
    other = Problem("files too small", 1, ("b.wav",))
    seen = seen_together((Seen(8, 1, (BROKEN,)), Seen(6, 0, ()), Seen(7, 2, (other, many))))
    assert (seen.pairs, seen.cut) == (21, 3)
    assert seen.problems == (Problem("files unreadable", 13, ("a.jpg", *many.examples[:9])), other)


def test_recordings_that_are_cut_are_told_once() -> None:
    notes = SeenNotes(max_seconds=2.5)
    assert notes.lines(Seen(8, 0, ())) == ()
    assert notes.lines(Seen(8, 3, ())) == (
        "3 of 8 recordings are longer than 2.5 s, and no more is heard of them (--max_seconds)",
    )
    assert notes.lines(Seen(8, 4, ())) == ()


def test_problems_are_told_again_only_when_there_are_more() -> None:
    notes = SeenNotes(max_seconds=10)
    assert notes.lines(Seen(8, 0, (BROKEN,))) == ("1 files unreadable: a.jpg",)
    assert notes.lines(Seen(8, 0, (BROKEN,))) == ()
    assert len(notes.lines(Seen(8, 0, (BROKEN, Problem("others", 2, ("b",)))))) == 2
