"""Imports tensorboardX without torch.

tensorboardX imports torch when torch is installed: two seconds and half a gigabyte, and this room uses none of that.
"""

import sys

if "torch" not in sys.modules:
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX  # noqa: F401 - imported here, while torch cannot be imported
    finally:
        del sys.modules["torch"]
