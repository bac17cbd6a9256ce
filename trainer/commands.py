"""The trainer's command: ``tensorboard-sidecar train --root_dir DIR``."""

import argparse
import io
import logging
import os
import secrets
import sys
from datetime import datetime

from tensorboard_sidecar.trainer.settings.command_line import given_settings


def train(options: argparse.Namespace) -> int:
    """Train with the settings of the command line; return the exit code.

    0: finished; 2: wrong settings, data or checkpoint. Raises Interrupted, which has the exit code 130 or 143, after
    Ctrl-C or SIGTERM.
    """
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
        print(f"error: {error}", file=sys.stderr)
        return 2
    if summary is not None:
        progress.lines("", *summary.lines())
    return 0
