"""The terminal's output during training: a progress bar for each epoch, and a line at its end."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO

import torch
from torch import Tensor
from tqdm import tqdm

from tensorboard_sidecar import Finding
from tensorboard_sidecar.protocol.printable import printable


class LateValue:
    """A device scalar, read one update late without a wait: its copy to the host has arrived by then.

    ``shown`` is the newest known value, None at first. While a copy has not arrived, the older value stays. A value in
    host memory is known at once.
    """

    def __init__(self) -> None:
        self.shown: float | None = None
        self._copy: Tensor | None = None
        self._arrived: Any = None  # a CUDA event, whose class torch leaves untyped

    def update(self, value: Tensor) -> float | None:
        """Start the copy of a new 0-d value; return ``shown``."""
        if not value.is_cuda:
            self.shown = float(value.detach())
            return self.shown
        if self._copy is None:
            self._copy = torch.empty((), dtype=value.dtype, pin_memory=True)
        elif not self._arrived.query():
            return self.shown
        else:
            self.shown = float(self._copy)
        self._copy.copy_(value.detach(), non_blocking=True)
        self._arrived = torch.cuda.current_stream(value.device).record_event()
        return self.shown


class Bar:
    """The progress bar of an epoch: pairs, pairs a second, the loss, and telemetry's lag in seconds."""

    def __init__(self, bar: "tqdm[NoReturn]", loss: LateValue) -> None:
        self._bar, self._loss = bar, loss

    def advance(self, pairs: int) -> None:
        """Count finished pairs."""
        self._bar.update(pairs)

    def show(self, loss: Tensor, lag_seconds: float) -> None:
        """Show the newest loss that is known without a wait, and the lag."""
        shown = self._loss.update(loss)
        known = "" if shown is None else f"loss {shown:.3f}, "
        self._bar.set_postfix_str(f"{known}telemetry lag {lag_seconds:.1f} s", refresh=False)


class Progress:
    """Writes bars and lines to a terminal, only lines to other outputs, and nothing to None."""

    def __init__(self, output: TextIO | None) -> None:
        tqdm.monitor_interval = 0  # tqdm's monitor thread helps only bars that are seldom updated
        self._output = output
        self._loss = LateValue()
        self._shown_states: dict[tuple[str, str], str] = {}

    @contextmanager
    def bar(self, title: str, pairs: int) -> Iterator[Bar]:
        """Show the bar of an epoch until the end of the block, only on a terminal."""
        hidden = self._output is None or not self._output.isatty()
        with tqdm(
            total=pairs, desc=title, unit=" pairs", file=self._output, disable=hidden, leave=False, dynamic_ncols=True
        ) as bar:
            yield Bar(bar, self._loss)

    def lines(self, *texts: str) -> None:
        """Write lines that stay. An output that fails, as a closed pipe does, does not end training."""
        if self._output is not None and texts:
            with suppress(OSError), tqdm.external_write_mode(self._output):  # between two drawings of a bar
                self._output.writelines(f"{text}\n" for text in texts)
                self._output.flush()

    def findings(self, findings: Iterable[Finding]) -> None:
        """Write a line for each finding that has opened or cleared since the last call."""
        for finding in findings:
            key = finding.rule, finding.tag
            if finding.state != self._shown_states.get(key, "cleared"):
                self._shown_states[key] = finding.state
                advice = f". {finding.advice}" if finding.state == "open" else ""
                self.lines(printable(f"finding {finding.state}: {finding}{advice}"))
