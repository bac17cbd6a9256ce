"""Train from the command line: ``tensorboard-sidecar train --root_dir DIR``."""

import io
import logging
import os
import secrets
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from tensorboard_sidecar.trainer.interrupt import Interrupted


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit status.

    0: finished; 2: wrong settings, data or checkpoint; 130 or 143: stopped by Ctrl-C or SIGTERM.
    """
    try:
        return _train(arguments)
    except KeyboardInterrupt as stopped:
        return stopped.exit_code if isinstance(stopped, Interrupted) else 130
    finally:
        _let_go_of_output()


def _train(arguments: Sequence[str] | None) -> int:
    # Imports come here, where a Ctrl-C while they load ends as any other does, and those of torch last: --help and a
    # mistyped flag need not wait for it, and it reads the policy below when it is loaded.
    from tensorboard_sidecar.trainer.settings.command_line import parse_arguments  # noqa: PLC0415 - see above

    given = parse_arguments(arguments)
    # On a CPU shared with a logger, torch's threads that wait by spinning make a step several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from tensorboard_sidecar.trainer.launch import UserError, launch  # noqa: PLC0415 - see above
    from tensorboard_sidecar.trainer.progress import Progress  # noqa: PLC0415 - see above

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that this terminal cannot show ends no training
    default_run = f"flickr8k/{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    progress = Progress(sys.stdout)
    try:
        summary = launch(given, progress, default_run=default_run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if summary is not None:
        progress.lines("", *summary.lines())
    return 0


def _let_go_of_output() -> None:
    """Say the last words; where nobody reads them, keep the interpreter from complaining about it at its end."""
    if sys.stdout is None:  # closed before we began
        return
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path, a device
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
