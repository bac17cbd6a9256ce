from tensorboard_sidecar.trainer.data.limits import EXAMPLES_NAMED
from tensorboard_sidecar.trainer.data.report import DataReport, Problem, Tally, printable


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
