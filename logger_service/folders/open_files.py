"""The limit on open files of this process."""

import resource
from contextlib import suppress


def raise_open_files_limit() -> int:
    """Raise the limit on open files to its maximum, and return it: each connection and each written stream is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # some systems report an unlimited maximum, and refuse to set it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
