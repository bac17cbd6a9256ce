"""How far long work has come, on one line of a terminal that is written again and again."""

import shutil
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Final, Self, TextIO

_INTERVAL_SECONDS: Final = 0.25
_CLEAR: Final = "\r\x1b[K"


class ProgressLine:
    """Shows at most four texts a second on ``stream``, and none where that is no terminal; cleared in the end."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._shows = stream.isatty()
        self._show_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shows:
            self._write(_CLEAR)

    def show(self, text: str) -> None:
        """Show ``text``, cut to the terminal's width, unless the last one is not old enough."""
        if self._shows and self._clock() >= self._show_at:
            self._show_at = self._clock() + _INTERVAL_SECONDS
            self._write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
