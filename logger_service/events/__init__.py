"""From messages to TensorBoard event files; the only place that imports tensorboardX."""

import sys

if "torch" not in sys.modules:
    # tensorboardX imports torch where it finds it: two seconds and half a gigabyte for nothing that is used here.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import tensorboardX  # noqa: F401 - for what it finds, or does not, while it is imported
    finally:
        del sys.modules["torch"]
