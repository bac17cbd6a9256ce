"""Find the parts of Flickr8k under a folder, by their published names.

The original parts are ``Flicker8k_Dataset/`` (with that spelling), ``Flickr8k_text/`` and ``flickr_audio/``; a common
re-upload has ``Images/`` and ``captions.txt``. Each part may lie in the root or, when each archive was unpacked into a
separate folder, in a folder of the root.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from tensorboard_sidecar.trainer.data.limits import FOLDERS_SEARCHED_MAX
from tensorboard_sidecar.trainer.data.report import DataError

IMAGE_FOLDERS: Final = ("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images")
TOKEN_FILES: Final = ("Flickr8k_text/Flickr8k.token.txt", "Flickr8k.token.txt")
CSV_FILES: Final = ("captions.txt",)
SPOKEN_FILES: Final = ("flickr_audio/wav2capt.txt", "wav2capt.txt")
AUDIO_FOLDERS: Final = ("flickr_audio/wavs", "wavs")
SPLIT_FILES: Final = tuple(
    (f"Flickr8k_text/Flickr_8k.{split}Images.txt", f"Flickr_8k.{split}Images.txt") for split in ("train", "dev", "test")
)
IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, slots=True)
class Parts:
    """The paths of the parts of a data set."""

    images: Path
    captions: Path
    captions_are_csv: bool
    spoken: Path
    audio: Path
    splits: tuple[Path, Path, Path] | None
    """The lists for training, validation and test; None if any list is missing."""


def locate(root: Path) -> Parts:
    """Find the parts under ``root``. Raises DataError with all missing parts, OSError for an unreadable folder."""
    places = _places(root)
    images = _first(places, IMAGE_FOLDERS, _holds_images)
    tokens = _first(places, TOKEN_FILES, Path.is_file)
    captions = tokens or _first(places, CSV_FILES, Path.is_file)
    spoken = _first(places, SPOKEN_FILES, Path.is_file)
    audio = _first(places, AUDIO_FOLDERS, Path.is_dir)
    missing = [
        f"no {description} ({' or '.join(names)})"
        for part, description, names in (
            (images, "folder of pictures", IMAGE_FOLDERS),
            (captions, "captions", TOKEN_FILES + CSV_FILES),
            (spoken, "list of spoken captions", SPOKEN_FILES),
            (audio, "folder of spoken captions", AUDIO_FOLDERS),
        )
        if part is None
    ]
    if images is None or captions is None or spoken is None or audio is None:
        where = (
            f"Searched this folder and the {len(places) - 1} folders in it." if places else "There is no such folder."
        )
        raise DataError(
            f"{root} is no Flickr8k with spoken captions: {'; '.join(missing)}. {where} "
            "`tensorboard-sidecar demo-data DIR` writes a small data set to try."
        )
    train, dev, test = (_first(places, names, Path.is_file) for names in SPLIT_FILES)
    splits = (train, dev, test) if train and dev and test else None
    return Parts(images, captions, tokens is None, spoken, audio, splits)


def _places(root: Path) -> list[Path]:
    """Return the root and its folders, sorted, without hidden folders and the ``__MACOSX`` of zip archives.

    An empty list if the root is no folder.
    """
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        folders = (entry.name for entry in entries if entry.is_dir() and entry.name[0] not in "._")
        found = sorted(islice(folders, FOLDERS_SEARCHED_MAX))
    return [root, *(root / name for name in found)]


def _first(places: Iterable[Path], names: Iterable[str], fits: Callable[[Path], bool]) -> Path | None:
    candidates = (place / name for place in places for name in names)
    return next((path for path in candidates if fits(path)), None)


def _holds_images(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(IMAGE_SUFFIXES) for entry in entries)
