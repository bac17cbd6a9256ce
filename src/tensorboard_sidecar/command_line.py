"""``tensorboard-sidecar COMMAND``: one command line for all programs of this project.

Each room describes a command in a function ``add_<command>(parser)`` and runs it in a function ``<command>(options)``.
Only the room of the given command is imported, and the program only after the arguments are parsed: ``serve`` loads no
torch, ``status`` no matplotlib, ``--help`` neither.
"""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from tensorboard_sidecar import __version__

EXIT_WRONG: Final = 2
EXIT_INTERRUPTED: Final = 130

_PROGRAM: Final = "tensorboard-sidecar"
_DESCRIPTION: Final = """\
TensorBoard logging that never makes a training loop wait. The loop keeps its records in shared memory; a logger
process receives them, writes a journal, and draws event files for TensorBoard.
"""
_EPILOG: Final = f"""\
examples:
  {_PROGRAM} serve --recordings recordings --logdir runs     start a logger
  {_PROGRAM} train --root_dir data/flickr8k --run first      train, and send records to that logger
  {_PROGRAM} replay recordings --logdir replayed             make the event files once more

exit codes:
  0    done
  1    something is left behind (drain), or nothing would be replaced (run --check)
  2    wrong usage, or a file, folder or address that cannot be used
  3    something was lost (verify)
  4    a finding that is an error is open, or a hop fails (doctor)
  5    a finding that is a warning is open (doctor)
  130  stopped by Ctrl-C (143: by SIGTERM)

{_PROGRAM} help COMMAND explains a command; {_PROGRAM} COMMAND --help does the same.
"""

_COMPLETION: Final = """\
Print a script for a shell. Once the shell has read it, the Tab key completes commands, flags and paths.
"""
_COMPLETION_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar completion bash > ~/.local/share/bash-completion/completions/tensorboard-sidecar
  tensorboard-sidecar completion zsh > ~/.zfunc/_tensorboard-sidecar     (a folder of your fpath)
  tensorboard-sidecar completion tcsh > ~/.tensorboard-sidecar.completion     (source it in ~/.tcshrc)

It needs: pip install 'tensorboard-sidecar[completion]'

exit codes: 0 printed, 2 wrong usage, or shtab is not installed
"""


class Command(NamedTuple):
    """A command: its line in the help, where its program and its parser are, and what must be installed.

    ``program`` has the form ``room.module:function``. ``library`` is a module of ``extra``: where it cannot be found,
    the extra is not installed. ``arguments`` is the module of ``add_<function>``, by default the program's module. A
    command without a summary is hidden.
    """

    summary: str
    program: str
    extra: str
    library: str
    arguments: str = ""


def _of_logger(summary: str, name: str, library: str = "zmq") -> Command:
    return Command(summary, f"logger_service.commands:{name}", "logger", library, "logger_service.arguments")


def _of_telemetry(summary: str, name: str, room: str = "telemetry.recovery") -> Command:
    return Command(summary, f"{room}.commands:{name}", "telemetry", "zmq", f"{room}.arguments")


COMMANDS: Final = {
    "run": _of_telemetry("run a program with its SummaryWriter replaced", "run", "telemetry.replacement"),
    "train": Command("train the reference model on Flickr8k", "trainer.commands:train", "trainer", "torchvision"),
    "demo-data": Command(
        "write a small data set to train on", "trainer.data.synthetic:demo_data", "trainer", "torchvision"
    ),
    "serve": _of_logger("run a logger: receive records, journal them, write event files", "serve"),
    "replay": _of_logger("make event files from recordings", "replay", "tensorboardX"),
    "inspect": _of_logger("show what recordings hold", "inspect"),
    "verify": _of_logger("check recordings and event files for losses", "verify"),
    "doctor": Command("say what is wrong with runs, or with the way to TensorBoard", "doctor:doctor", "logger", "zmq"),
    "keys": _of_logger("make keys for trainers on other machines; allow and revoke them", "keys"),
    "status": _of_telemetry("list the records that wait on this machine, and their trainers", "status"),
    "drain": _of_telemetry("ship the records that ended trainers left behind", "drain"),
    "completion": Command(
        "print a shell script that completes this command line", "command_line:completion", "completion", "shtab"
    ),
}
_HIDDEN: Final = {
    "project": _of_logger("", "project", "tensorboardX"),
    "helper": Command("", "logger_service.helper.command:helper", "writer", "tensorboardX"),
}


class HelpFormatter(argparse.HelpFormatter):
    """Wrap the paragraphs of descriptions to the terminal's width; keep paragraphs with indented lines as written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)
        self._action_max_length = 14  # argparse forgets the indent of the commands, and breaks after the longest

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(
            paragraph if "\n  " in paragraph else textwrap.fill(paragraph, width, initial_indent=indent)
            for paragraph in paragraphs
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. Raises SystemExit: code 2 for wrong usage, 0 after ``--help``.

    >>> main(["inspect", "no/such/folder"])
    2
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["help"]:
        given = [*given[1:2], "--help"]
    try:
        options = _parse(given)
        command = (COMMANDS | _HIDDEN)[options.command]
        if find_spec(command.library) is None:
            install = f"pip install '{_PROGRAM}[{command.extra}]'"
            return _complain(f"{options.command} needs {command.library}, which is not installed: {install}")
        run: Callable[[argparse.Namespace], int] = _load(command.program)
        return run(options)
    except KeyboardInterrupt as stopped:
        return int(getattr(stopped, "exit_code", EXIT_INTERRUPTED))
    finally:
        _flush_output()


def make_parser(described: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser of the command line; only the commands in ``described`` have their arguments.

    A command whose room is not installed here has none: the images of this project hold only the rooms they use.
    """
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for name, command in (COMMANDS | _HIDDEN).items():
        shown: dict[str, Any] = {"help": command.summary} if command.summary else {}
        added = commands.add_parser(name, formatter_class=HelpFormatter, **shown)
        if name in described:
            module, _, function = command.program.partition(":")
            _load(f"{command.arguments or module}:add_{function}")(added)
    return parser


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Describe ``completion``."""
    parser.description, parser.epilog = _COMPLETION, _COMPLETION_EXAMPLES
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell that reads the script")


def completion(options: argparse.Namespace) -> int:
    """Print a script with which a shell completes commands, flags and paths; return the exit code."""
    import shtab  # noqa: PLC0415 - an optional library, and only this command needs it

    parser = make_parser(list(_describable()))
    for action in _actions(parser):
        if action.type in (Path, os.fspath):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(parser, options.shell))
    return 0


def _parse(given: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; a misspelt command is answered with the nearest that exists."""
    name = given[0] if given else ""
    command = (COMMANDS | _HIDDEN).get(name)
    if command is not None and not _is_here(command):
        raise SystemExit(_complain(f"{name} is not a part of this installation"))
    parser = make_parser([name] if command is not None else [])
    if not given:
        parser.print_help(sys.stderr)
        raise SystemExit(EXIT_WRONG)
    if command is None and not name.startswith("-"):
        near = get_close_matches(name, COMMANDS, n=1)
        parser.error(f"no command {name!r}; " + (f"did you mean {near[0]}?" if near else "see: --help"))
    return parser.parse_args(given)


def _is_here(command: Command) -> bool:
    room, _, module = command.program.partition(":")[0].partition(".")
    return not module or find_spec(f"tensorboard_sidecar.{room}") is not None


def _load(place: str) -> Callable[..., Any]:
    module, _, function = place.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(f"tensorboard_sidecar.{module}"), function)
    return loaded


def _complain(text: str) -> int:
    with suppress(BrokenPipeError):
        print(f"error: {text}", file=sys.stderr)
    return EXIT_WRONG


def _flush_output() -> None:
    """Flush stdout; where its reader is gone, redirect it, so that the interpreter does not report that at its end."""
    if sys.stdout is None:  # the process was started without one
        return
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path, a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


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


def how_to_run(command: str) -> str:
    """Return how a command is typed in this environment, for hints that can be copied as they stand.

    ``tensorboard-sidecar COMMAND`` if the shell finds this environment's; else start it by the interpreter.

    >>> how_to_run("replay").endswith(" replay")
    True
    """
    found = shutil.which("tensorboard-sidecar")
    if found is not None and Path(found).absolute().parent == Path(sys.executable).absolute().parent:
        return f"tensorboard-sidecar {command}"
    return f"{min(sys.executable, os.path.relpath(sys.executable), key=len)} -m tensorboard_sidecar {command}"
