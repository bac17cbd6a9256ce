"""The command ``doctor --live``: prints a line for each hop."""

import argparse
import shutil
import sys
from typing import Final

from tensorboard_sidecar.protocol.printable import print_line, printable
from tensorboard_sidecar.telemetry.probe.hops import Hop, Probe, Settings

_DONE: Final = 0
_WRONG: Final = 2
_FAILED: Final = 4
_CLEAR_LINE: Final = "\r\x1b[K"


def probe(options: argparse.Namespace) -> int:
    """Send a point and look for it; return 0, 4 when a hop fails, 2 for wrong settings."""
    settings = Settings(
        *(options.endpoint, options.tensorboard, options.logdir),
        *(options.server_key, options.client_key, options.seconds),
    )
    try:
        one = Probe(settings, _show)
        hops = []
        for hop in one.hops():
            _show("")
            print_line(_line(hop))
            hops.append(hop)
    except (OSError, ValueError) as error:
        _show("")
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return _WRONG
    _conclude(one, hops)
    return _DONE if all(hop.works for hop in hops) else _FAILED


def _conclude(one: Probe, hops: list[Hop]) -> None:
    if any(hop.name == "journal" and hop.works for hop in hops):
        print_line(
            f"The run {one.run} stays in the recordings and in the log directory. To remove it, delete the folder"
            f" {one.run} in both, once the logger has stopped."
        )
    else:
        print_line("No point reached the logger, and nothing is left behind.")


def _line(hop: Hop) -> str:
    if hop.works is None:
        text = hop.text or "not tried"
    elif hop.works:
        text = f"ok      {hop.text}".rstrip()
    else:
        text = f"failed: {hop.text}"
    return printable(f"{hop.name:<12} {text}")


def _show(text: str) -> None:
    """Show ``text`` on a line of a terminal until the next text; an empty text clears the line."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(_CLEAR_LINE + printable(text)[:width])
        sys.stderr.flush()
