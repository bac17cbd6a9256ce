"""The arguments of ``train``: a flag for every setting of :class:`Config`, with its group and its explanation."""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.trainer.settings.config import Config, settings

GROUPS: Final = ("data", "model", "training", "telemetry", "checkpoints")
_DESCRIPTION: Final = """\
Train the reference model: align text, image and audio on Flickr8k with spoken captions. Everything is logged to
TensorBoard, by way of a logger (tensorboard-sidecar serve) or of a recording (--record DIR).
"""
_EPILOG: Final = """\
examples:
  tensorboard-sidecar train --root_dir data/flickr8k --run first
  tensorboard-sidecar train --run first --resume auto     (begin the run, or go on with it)
  tensorboard-sidecar train --endpoint none --record recordings     (no logger: record only, replay later)
  torchrun --nproc_per_node 2 -m -- tensorboard_sidecar train --run two-gpus

Ctrl-C stops between two steps; --resume goes on. A resumed run keeps the settings that are not given.

exit codes: 0 finished, 2 wrong settings, data or checkpoint, 130 stopped by Ctrl-C, 143 stopped by SIGTERM
"""
_METAVARS: Final = {int: "N", float: "X", str: "NAME", Path: "PATH"}


def add_train(parser: argparse.ArgumentParser) -> None:
    """Describe ``train``: a flag for every setting, which can be written with underscores or dashes."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.argument_default = argparse.SUPPRESS  # a resumed run keeps the settings that are not given
    parser.allow_abbrev = False
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


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the command line gives, and no other."""
    return {name: value for name, value in vars(options).items() if name in settings()}


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, int) and default >= 2**20:
        return f"{default}, {default // 2**20} MiB"
    return "none" if default in (None, "") else str(default)
