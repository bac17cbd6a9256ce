"""Imports tensorboardX before anybody else does, and keeps torch out of it.

tensorboardX imports torch where it finds it: two seconds and half a gigabyte for nothing that is used here.
"""

import sys

if "torch" not in sys.modules:
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX  # noqa: F401 - for what it finds, or does not, while it is imported
    finally:
        del sys.modules["torch"]
