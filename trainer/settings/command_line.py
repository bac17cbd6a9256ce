"""The command line: a flag for every setting of :class:`Config`, grouped and explained from the same place."""

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.trainer.settings.config import Config, settings

GROUPS: Final = ("data", "model", "training", "telemetry", "checkpoints")
_METAVARS: Final = {int: "N", float: "X", str: "NAME", Path: "PATH"}


def parse_arguments(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the settings that were given, and only those, so that a resumed run keeps its own.

    Exits with status 2 for an unknown flag or a value of the wrong type.
    """
    return vars(build_parser().parse_args(arguments))


def build_parser() -> argparse.ArgumentParser:
    """Make the parser; every flag can be written with underscores or dashes."""
    parser = argparse.ArgumentParser(
        prog="tensorboard-sidecar train",
        description="Align text, image and audio on Flickr8k with spoken captions, and log everything to TensorBoard.",
        epilog="Ctrl-C stops between two steps; go on with --resume. Settings of a resumed run are kept unless given.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    groups = {name: parser.add_argument_group(name) for name in GROUPS}
    defaults = {item.name: item.default for item in fields(Config)}
    for name, (kind, setting) in settings().items():
        flags = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        text = setting.explanation
        if "(default" not in text:
            text += f" (default: {_shown(defaults[name])})"
        options: dict[str, Any] = {"dest": name, "help": text.replace("%", "%%")}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif setting.choices:
            options["choices"] = setting.choices
        else:
            options |= {"type": kind, "metavar": _METAVARS[kind]}
        groups[setting.group].add_argument(*flags, **options)
    return parser


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, int) and default >= 2**20:
        return f"{default}, {default // 2**20} MiB"
    return "none" if default in (None, "") else str(default)
