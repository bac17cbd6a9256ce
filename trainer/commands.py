"""The trainer's command: ``tensorboard-sidecar train``, with a flag for every setting of :class:`Config`."""

import argparse
import io
import logging
import os
import secrets
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tensorboard_sidecar.trainer.settings import Config, ConfigError, check_given, settings

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
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(s.group for _, s in settings().values())}
    for name, (kind, setting) in settings().items():
        flags = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))
        text = setting.explanation
        if "(default" not in text:
            text += f" (default: {_shown(getattr(Config, name))})"
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


def train(options: argparse.Namespace) -> int:
    """Train; return 0, or 2 for wrong settings, data or checkpoint. Raises Interrupted after Ctrl-C or SIGTERM."""
    try:
        check_given(given_settings(options))  # before torch loads, which takes seconds
    except ConfigError as error:
        return _complain(error)
    # torch's threads read this policy when torch is loaded, below. On a CPU shared with a logger, threads that wait by
    # spinning make a step several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from tensorboard_sidecar.trainer.launch import UserError, launch  # noqa: PLC0415 - see above
    from tensorboard_sidecar.trainer.progress import Progress  # noqa: PLC0415 - see above

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show ends no training
    default_run = f"flickr8k/{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    progress = Progress(sys.stdout)
    try:
        summary = launch(given_settings(options), progress, default_run=default_run)
    except UserError as error:
        return _complain(error)
    if summary is not None:
        progress.lines("", *summary.lines())
    return 0


def _complain(error: Exception) -> int:
    print(f"error: {error}", file=sys.stderr)
    return 2


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, int) and default >= 2**20:
        return f"{default}, {default // 2**20} MiB"
    return "none" if default in (None, "") else str(default)
