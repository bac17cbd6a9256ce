"""``python -m logger_service`` in a checkout, installed or not: the same as ``tensorboard-sidecar``."""

import os
import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    source = Path(__file__).resolve().parents[1] / "src"
    if source.is_dir():
        sys.path.insert(0, str(source))
        # The processes that a command starts find the package in the same place.
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
    sys.exit(import_module("tensorboard_sidecar.__main__").main())
