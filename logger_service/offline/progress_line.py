"""Progress of long work, on one line of a terminal that is overwritten."""

import shutil
from collections.abc import Callable
from time import monotonic
from typing import Final, Self, TextIO

_INTERVAL_SECONDS: Final = 0.25
_CLEAR: Final = "\r\x1b[K"


class ProgressLine:
    """Shows at most four texts a second on ``stream``, and clears the line at the end; silent without a terminal."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._shows = stream.isatty()
        self._show_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            self._write(_CLEAR)

    def show(self, text: str) -> None:
        """Show ``text``, cut to the width of the terminal; skip the text within 0.25 s of the last shown text."""
        if self._shows and self._clock() >= self._show_at:
            self._show_at = self._clock() + _INTERVAL_SECONDS
            self._write(_CLEAR + text[: shutil.get_terminal_size().columns - 1])

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
