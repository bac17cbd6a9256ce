"""Train from the command line: ``python -m trainer --root_dir DIR``."""

import logging
import os
import secrets
import sys
from collections.abc import Sequence
from datetime import datetime

from trainer.command_line import parse_arguments


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says; return the exit status.

    0: finished; 2: wrong settings, data or checkpoint; 130 or 143: stopped by Ctrl-C or SIGTERM.
    """
    given = parse_arguments(arguments)
    # On a CPU shared with a logger, torch's threads that wait by spinning make a step several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Only now: the policy is read when torch is loaded, and --help and a mistyped flag need not wait for that.
    from trainer.interrupt import Interrupted  # noqa: PLC0415 - see above
    from trainer.launch import UserError, launch  # noqa: PLC0415 - see above
    from trainer.progress import Progress  # noqa: PLC0415 - see above

    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    default_run = f"flickr8k/{datetime.now().astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    try:
        summary = launch(given, Progress(sys.stdout), default_run=default_run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        return stopped.exit_code if isinstance(stopped, Interrupted) else 130
    if summary is not None:
        print("\n".join(("", *summary.lines())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
