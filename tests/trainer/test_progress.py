import io

import pytest
import torch
from msgspec.structs import replace

from tensorboard_sidecar import Finding
from tensorboard_sidecar.trainer.progress import LateValue, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_value_in_host_memory_is_shown_at_once() -> None:
    value = LateValue()
    assert value.update(torch.tensor(3.0)) == 3.0
    assert value.update(torch.tensor(2.0)) == 2.0


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_value_on_a_device_is_shown_one_update_late() -> None:
    value, loss = LateValue(), torch.tensor(3.0, device="cuda")
    assert value.update(loss) is None
    torch.cuda.synchronize()
    loss.fill_(9.0)
    assert value.update(loss) == 3.0


def test_a_loss_that_is_not_known_yet_is_not_shown_as_nan() -> None:
    output = Terminal()
    with Progress(output).bar("epoch 1/2", 64) as bar:
        bar._loss.update = lambda _value: None  # type: ignore[method-assign]
        bar.show(torch.tensor(7.5), 0.25)
        bar._bar.refresh()
    assert "telemetry lag 0.2 s" in output.getvalue()
    assert "loss" not in output.getvalue()


def test_the_next_epoch_begins_with_the_loss_that_is_known() -> None:
    progress = Progress(Terminal())
    with progress.bar("epoch 1/2", 64) as bar:
        bar.show(torch.tensor(7.5), 0.25)
    with progress.bar("epoch 2/2", 64) as bar:
        assert bar._loss.shown == 7.5


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
    assert "loss 6.500, telemetry lag 0.2 s" in shown


def test_anything_else_sees_lines_only() -> None:
    output = io.StringIO()
    progress = Progress(output)
    with progress.bar("epoch 1/2", 64) as bar:
        bar.show(torch.tensor(7.5), 0.25)
        bar.advance(64)
    progress.lines("epoch 1/2 done", "and more")
    assert output.getvalue() == "epoch 1/2 done\nand more\n"


class ClosedPipe(io.StringIO):
    """An output whose reader has gone, as after ``| head -1``."""

    def write(self, _text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_lines_that_nobody_reads_end_no_training() -> None:
    Progress(ClosedPipe()).lines("unheard", "neither")


def test_without_an_output_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress(None)
    with progress.bar("epoch 1/2", 64) as bar:
        bar.advance(64)
    progress.lines("unheard")
    assert capfd.readouterr() == ("", "")


FINDING = Finding("loss-spike", "warn", "loss\x1b[2J", "open", 40, 44, 5, 3.2, {"value": 6.4}, "Look at the batches.")


def test_a_finding_is_a_line_when_it_opens_and_when_it_clears() -> None:
    output = io.StringIO()
    progress = Progress(output)
    progress.findings(())
    progress.findings((FINDING,))
    progress.findings((replace(FINDING, count=9, last_step=60),))
    progress.findings((replace(FINDING, state="cleared"), replace(FINDING, rule="never-seen-open", state="cleared")))
    assert output.getvalue().splitlines() == [
        "finding open: warn: loss-spike of loss\\x1b[2J, steps 40 to 44 (value 6.4). Look at the batches.",
        "finding cleared: warn: loss-spike of loss\\x1b[2J, steps 40 to 44, cleared (value 6.4)",
    ]


def test_a_line_does_not_break_the_bar() -> None:
    output = Terminal()
    progress = Progress(output)
    with progress.bar("epoch 1/2", 64) as bar:
        bar.advance(32)
        progress.lines("a line")
    assert "\ra line\n" in output.getvalue()
