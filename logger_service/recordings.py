"""Finding recordings: folders that hold segments, anywhere below a folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from protocol.segment import SEGMENT_SUFFIX


def find_recordings(root: Path) -> Iterator[tuple[Path, tuple[str, int]]]:
    """Yield every recording at or below ``root``, and a token that changes when it grows; links are not followed.

    A folder that vanishes or cannot be read while it is walked is passed over.
    """
    for folder, folders, files in os.walk(root):
        folders.sort()
        last = max((name for name in files if name.endswith(SEGMENT_SUFFIX)), default=None)
        if last is not None:
            path = Path(folder)
            try:
                yield path, (last, (path / last).stat().st_size)
            except FileNotFoundError:
                continue


def require_recordings(paths: Sequence[Path]) -> list[Path]:
    """Return the recordings at or below the given paths, each once; raise FileNotFoundError where there is none."""
    found: dict[Path, None] = {}
    for path in paths:
        below = [folder for folder, _ in find_recordings(path)]
        if not below:
            raise FileNotFoundError(
                f"no recording at or below {path}; a recording is a folder of *{SEGMENT_SUFFIX} files"
            )
        found.update(dict.fromkeys(below))
    return list(found)
