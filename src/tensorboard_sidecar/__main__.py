"""``python -m tensorboard_sidecar``: the same as the installed command ``tensorboard-sidecar``."""

import sys

from tensorboard_sidecar.command_line import main

if __name__ == "__main__":
    sys.exit(main())
