"""The rule on the time of a step."""

from support.findings import Judge, noisy, states

from tensorboard_sidecar.logger_service.findings.rules.pace import SLOWER
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.watch import Watch


def paces(*parts: tuple[int, float]) -> list[float]:
    return [seconds * factor for count, seconds in parts for factor in noisy(count, spread=0.1)]


def test_steps_that_become_slower_open_and_clear() -> None:
    found = Judge(SLOWER).curve(paces((500, 0.1), (200, 0.2), (200, 0.1)), tag="")
    assert states(found) == ["open", "cleared"]
    assert 500 < found[0].first_step < 560
    assert 1.5 < found[0].evidence["seconds"] / found[0].evidence["usual"] < 2.5


def test_evaluations_and_checkpoints_between_steps_are_no_finding() -> None:
    seconds = [10.0 if number % 5 == 0 else value for number, value in enumerate(paces((1_000, 0.1)))]
    assert Judge(SLOWER).curve(seconds, tag="") == []


def test_slow_first_steps_and_steps_of_no_time_are_no_finding() -> None:
    assert Judge(SLOWER).curve(paces((90, 5.0), (500, 0.1)), tag="") == []
    assert Judge(SLOWER).curve(paces((500, 0.001), (500, 0.004)), tag="") == []
    assert Judge(SLOWER).curve([0.0] * 500 + [1.0] * 500, tag="") == []


def test_the_times_of_records_are_the_times_of_steps() -> None:
    watch, found, now_ns = Watch(RULES), [], 0
    for step in range(1, 1_000):
        now_ns += 10 * (50_000_000 if step < 500 else 150_000_000)
        found += watch.scalars(10 * step, now_ns, {"loss": 1.0})
    assert [(one.rule, one.evidence) for one in found] == [("slower-steps", {"seconds": 0.15, "usual": 0.05})]
