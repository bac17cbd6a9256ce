import signal

import pytest

from tensorboard_sidecar.trainer.interrupt import Interrupted, StopSignals


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_remembered_until_the_next_check(number: signal.Signals, exit_code: int) -> None:
    with StopSignals() as stop:
        stop.check()
        signal.raise_signal(number)
        with pytest.raises(Interrupted, match=number.name) as stopped:
            stop.check()
    assert stopped.value.exit_code == exit_code


class ManualClock:
    """Shows the seconds it is set to."""

    seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


def test_a_second_signal_takes_effect_at_once() -> None:
    clock = ManualClock()
    with StopSignals(clock):
        signal.raise_signal(signal.SIGINT)
        clock.seconds += 1.5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_ctrl_c_that_arrives_threefold_is_one_wish() -> None:
    """As below torchrun, which passes on what the terminal sent its processes already, and adds a SIGTERM."""
    clock = ManualClock()
    with StopSignals(clock) as stop:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
            clock.seconds += 0.3
        with pytest.raises(Interrupted, match="SIGINT"):
            stop.check()


def test_handlers_are_as_before_when_it_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_it_is_no_fault_that_a_handler_would_swallow() -> None:
    assert not issubclass(Interrupted, Exception)
