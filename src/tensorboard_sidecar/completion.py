"""``tensorboard-sidecar completion SHELL``: a script with which a shell completes commands, flags and paths."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tensorboard_sidecar.command_line import COMMANDS, make_parser

_SHELLS: Final = ("bash", "zsh", "tcsh")
_DESCRIPTION: Final = """\
Print a script for a shell. Once the shell has read it, the Tab key completes commands, flags and paths.
"""
_EPILOG: Final = """\
examples:
  tensorboard-sidecar completion bash > ~/.local/share/bash-completion/completions/tensorboard-sidecar
  tensorboard-sidecar completion zsh > ~/.zfunc/_tensorboard-sidecar     (a folder of your fpath)
  tensorboard-sidecar completion tcsh > ~/.tensorboard-sidecar.completion     (source it in ~/.tcshrc)

It needs: pip install 'tensorboard-sidecar[completion]'

exit codes: 0 printed, 2 wrong usage, or shtab is not installed
"""


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("shell", choices=_SHELLS, help="the shell that reads the script")


def completion(options: argparse.Namespace) -> int:
    """Print the script; return the exit code."""
    import shtab  # noqa: PLC0415 - an optional library, and only this command needs it

    parser = make_parser(list(_describable()))
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _describable() -> Iterator[str]:
    """Yield the commands whose arguments can be described with what is installed here."""
    for name in COMMANDS:
        try:
            make_parser([name])
        except ImportError:
            continue
        yield name


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of the parsers below it."""
    for action in parser._actions:  # noqa: SLF001 - argparse lists them nowhere else
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - as above
            for below in action.choices.values():
                yield from _actions(below)
