"""``tensorboard-sidecar COMMAND``: one command for all programs of this project.

A command's module is imported when the command runs: ``serve`` needs no torch, ``status`` no matplotlib.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final, NamedTuple


class _Command(NamedTuple):
    """``module`` has the command's ``main``; ``named`` tells that it takes the command's name as its first argument."""

    explanation: str
    module: str
    named: bool = True


COMMANDS: Final = {
    "train": _Command("train the reference model on Flickr8k", "trainer.__main__", named=False),
    "demo-data": _Command("write a small data set to train on", "trainer.data.synthetic", named=False),
    "serve": _Command("receive from running trainers: journal first, then event files", "logger_service.__main__"),
    "replay": _Command("make event files from recordings", "logger_service.__main__"),
    "inspect": _Command("tell what is in a recording", "logger_service.__main__"),
    "verify": _Command("tell whether anything was lost from recordings or event files", "logger_service.__main__"),
    "keys": _Command("make keys for trainers on other machines; let them in, shut them out", "logger_service.__main__"),
    "status": _Command("list what trainers keep, or left behind, on this machine", "telemetry.recovery.commands"),
    "drain": _Command("ship what trainers left behind", "telemetry.recovery.commands"),
}
_INTERNAL: Final = {"project": _Command("the projection's process, started by serve", "logger_service.__main__")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code, 2 for a command that does not exist."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name in ("-h", "--help"):
        print(_help())
        return 0 if given else 2
    command = (COMMANDS | _INTERNAL).get(name)
    if command is None:
        print(f"error: no command {name!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    run: Callable[[Sequence[str]], int] = import_module(f"tensorboard_sidecar.{command.module}").main
    return run(given if command.named else given[1:])


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.explanation}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tensorboard-sidecar COMMAND ...",
            "",
            "TensorBoard logging that never makes a training loop wait.",
            "",
            *lines,
            "",
            "tensorboard-sidecar COMMAND --help explains a command.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
