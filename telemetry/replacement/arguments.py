"""The arguments of ``run``, and what its help teaches."""

import argparse
import os
from typing import Final

_RUN: Final = """\
Run a Python program with its SummaryWriter replaced by tensorboard_sidecar.SummaryWriter: torch.utils.tensorboard's and
tensorboardX's, and so the one that Lightning, Transformers, Accelerate, Ignite or Stable-Baselines3 make. No file of
the program changes. The program is started as `python SCRIPT ARGUMENTS` and takes the place of this command: arguments,
standard input, signals and exit code are the program's own. The FileWriter of both libraries stays.

The children of the program are covered too (torchrun, spawned workers, python in a subprocess): they inherit PYTHONPATH
and TENSORBOARD_SIDECAR_REPLACE=1. Not covered are children that start without these two variables, and children that
Python itself shields: python -E, -I and -S. A child without TENSORBOARD_SIDECAR_REPLACE keeps its own SummaryWriter.

When the SummaryWriter cannot be replaced, one line on standard error says so, and the program runs on with its own.
"""
_RUN_EXAMPLES: Final = """\
examples:
  tensorboard-sidecar run train.py --epochs 3
  tensorboard-sidecar run -m package.train --epochs 3
  tensorboard-sidecar run -m torch.distributed.run --nproc_per_node 2 train.py     (torchrun)
  tensorboard-sidecar run --check train.py     (what would be replaced; runs nothing)

--check looks at what is installed, whether a writer can start here, and which imports the source of the program has. It
follows imports of the program's own files, and executes none of them.

exit codes: 0 with --check: a SummaryWriter that the program imports is replaced, 1 with --check: none is, because no
library with a SummaryWriter is installed, or because the writer or its helper cannot start, 2 wrong usage, or no such
script. Without --check, the exit code is the program's.
"""


def add_run(parser: argparse.ArgumentParser) -> None:
    """Describe ``run``."""
    parser.description, parser.epilog = _RUN, _RUN_EXAMPLES
    parser.add_argument(
        "-m", dest="module", action="store_true", help="SCRIPT is the name of a module, as in python -m"
    )
    parser.add_argument("--check", action="store_true", help="say what would be replaced; run nothing")
    parser.add_argument(
        "program",
        metavar="SCRIPT",
        nargs=argparse.PARSER,  # one argument that is no option, and all that follow, options and "--" too
        type=os.fspath,  # a Path would lose the "./" that the program sees in sys.argv
        help="a Python file, or a folder with __main__.py; the program's own arguments follow",
    )
