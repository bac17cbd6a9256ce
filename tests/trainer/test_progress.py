import io
import math

import pytest
import torch

from trainer.progress import LateValue, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_late_value_shows_the_one_before() -> None:
    value = LateValue()
    assert math.isnan(value.update(torch.tensor(3.0)))
    assert value.update(torch.tensor(2.0)) == 3.0
    assert value.update(torch.tensor(1.0)) == 2.0


def test_a_late_value_is_what_it_was_when_handed_over() -> None:
    value, loss = LateValue(), torch.tensor(3.0)
    value.update(loss)
    loss.fill_(9.0)
    assert value.update(loss) == 3.0


def test_a_terminal_sees_a_bar_with_loss_rate_and_lag() -> None:
    output = Terminal()
    with Progress(output).bar("epoch 1/2", 64) as bar:
        for loss in (7.5, 6.5):
            bar.show(torch.tensor(loss), 0.25)
            bar.advance(32)
        bar._bar.refresh()
    shown = output.getvalue()
    assert "epoch 1/2" in shown
    assert "64/64" in shown
    assert "pairs/s" in shown
    assert "loss 7.500, telemetry lag 0.2 s" in shown


def test_anything_else_sees_lines_only() -> None:
    output = io.StringIO()
    progress = Progress(output)
    with progress.bar("epoch 1/2", 64) as bar:
        bar.show(torch.tensor(7.5), 0.25)
        bar.advance(64)
    progress.lines("epoch 1/2 done", "and more")
    assert output.getvalue() == "epoch 1/2 done\nand more\n"


def test_without_an_output_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(None)
    with progress.bar("epoch 1/2", 64) as bar:
        bar.advance(64)
    progress.lines("unheard")
    assert capfd.readouterr() == ("", "")
