"""Write a small data set of drawn scenes and spoken captions, in the published layout of Flickr8k.

    DIR/Flicker8k_Dataset/scene_00000.jpg ...
    DIR/Flickr8k_text/Flickr8k.token.txt, Flickr_8k.{train,dev,test}Images.txt, synthetic.json
    DIR/flickr_audio/wav2capt.txt, wavs/scene_00000_0.wav ...

The same settings give the same bytes. All files are made in ``DIR/.unfinished`` and moved into place at the end, the
captions last, so that an interrupted write never looks like a data set.
"""

import argparse
import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Final, TypeVar

import soundfile
from tqdm import tqdm

from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.data.resampling import RATE_HZ
from tensorboard_sidecar.trainer.data.scenes import CAPTIONS_PER_SCENE, SCENES_MAX, captions_of, different_scenes, draw
from tensorboard_sidecar.trainer.data.speech import SpeechError, speak_all, utterance

Row = TypeVar("Row")

_DESCRIPTION: Final = """\
Write a small data set to train on at once: drawn scenes (some show the same shapes side by side), five English captions
of each, and every caption spoken. Folders and files are those of the published Flickr8k, so that the trainer reads both
in the same way. The same settings give the same files.
"""
_EPILOG: Final = """\
examples:
  tensorboard-sidecar demo-data data/small
  tensorboard-sidecar demo-data data/tiny --images 60 --seed 3
  tensorboard-sidecar demo-data data/large --images 4000 --side 256

A folder that holds this data set already is left unchanged; a folder with other files is refused. To train on the data
set: tensorboard-sidecar train --root_dir DIR

exit codes: 0 written, or there already, 2 wrong usage, or a folder that cannot be used, 130 stopped by Ctrl-C
"""

IMAGES_MIN: Final = 10
"""With fewer, one of the three splits would be empty."""

SIDE_MIN_PX: Final = 32
SIDE_MAX_PX: Final = 1024

_UNFINISHED: Final = ".unfinished"
_IMAGES: Final = "Flicker8k_Dataset"
_AUDIO: Final = "flickr_audio"
_TEXT: Final = "Flickr8k_text"
_MARKER: Final = "synthetic.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that determine every byte of the data set."""

    images: int = 640
    seed: int = 0
    side_px: int = 128
    version: int = 1
    """Increased when the same seed no longer gives the same bytes."""

    def __post_init__(self) -> None:
        """Raise ValueError for a size out of range."""
        if not IMAGES_MIN <= self.images <= SCENES_MAX:
            raise ValueError(f"images is {self.images}; expected {IMAGES_MIN} to {SCENES_MAX}")
        if not SIDE_MIN_PX <= self.side_px <= SIDE_MAX_PX:
            raise ValueError(f"the side is {self.side_px} pixels; expected {SIDE_MIN_PX} to {SIDE_MAX_PX}")


def write_synthetic(folder: Path, settings: Settings, processes: int | None = None) -> bool:
    """Write the data set; return False, without a change, if the folder already holds this data set.

    Raises DataError if the folder holds anything else or another process writes into the folder, SpeechError if eSpeak
    NG fails, OSError if the files cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if _is_there(folder, settings):
            return False
        unfinished = folder / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            _make(unfinished, settings, processes)
            for part in (_IMAGES, _AUDIO, _TEXT):
                (unfinished / part).rename(folder / part)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock the folder against other writers; the lock ends with the process."""
    with ExitStack() as undo:
        descriptor = os.open(folder, os.O_RDONLY)
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(f"another process is writing a data set into {folder}: wait for it") from error
        yield


def _is_there(folder: Path, settings: Settings) -> bool:
    """Tell whether the folder already holds this data set; raise DataError if the folder holds anything else."""
    marker = folder / _TEXT / _MARKER
    if marker.is_file():
        found = marker.read_text(encoding="utf-8")
        if found == _described(settings):
            return True
        raise DataError(
            f"{folder} holds a synthetic data set with other settings: expected {_described(settings).strip()}, "
            f"found {found[:200].strip()}. Delete that data set, or give another folder."
        )
    others = sorted(path.name for path in folder.iterdir() if path.name != _UNFINISHED)
    if others:
        raise DataError(
            f"{folder} is not empty, so nothing is written: the folder holds {', '.join(others[:5])}"
            f"{', ...' if len(others) > 5 else ''}. Give an empty or a new folder."
        )
    return False


def _described(settings: Settings) -> str:
    return json.dumps(asdict(settings)) + "\n"


def _make(folder: Path, settings: Settings, processes: int | None) -> None:
    """Draw, speak and list every scene under ``folder``."""
    for part in (_IMAGES, _AUDIO, f"{_AUDIO}/wavs", _TEXT):
        (folder / part).mkdir(parents=True)
    names = [f"scene_{number:05d}" for number in range(settings.images)]
    randoms = [Random(f"{settings.seed}:{name}") for name in names]
    scenes = list(different_scenes(settings.images, Random(settings.seed)))
    captions = [captions_of(scene, random) for scene, random in zip(scenes, randoms, strict=True)]
    said = [[utterance(text, random) for text in five] for five, random in zip(captions, randoms, strict=True)]
    spoken = speak_all([each for five in said for each in five], processes)
    for name, scene, random in _with_progress(list(zip(names, scenes, randoms, strict=True))):
        draw(scene, settings.side_px, random).save(folder / _IMAGES / f"{name}.jpg", quality=90)
        for index, samples in enumerate(islice(spoken, CAPTIONS_PER_SCENE)):
            path = folder / _AUDIO / "wavs" / f"{name}_{index}.wav"
            soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    _list(folder, names, captions)
    (folder / _TEXT / _MARKER).write_text(_described(settings), encoding="utf-8")


def _with_progress(scenes: Sequence[Row]) -> Iterator[Row]:
    """Hand the scenes on and show how far it is: a bar on a terminal, a line each quarter elsewhere."""
    if sys.stderr.isatty():
        yield from tqdm(scenes, "drawing and speaking", unit=" scenes")
        return
    quarters = {len(scenes) * quarter // 4 for quarter in (1, 2, 3, 4)}
    for number, scene in enumerate(scenes, 1):
        yield scene
        if number in quarters:
            _say(f"drawn and spoken: {number} of {len(scenes)} scenes")


def _list(folder: Path, names: Sequence[str], captions: Sequence[Sequence[str]]) -> None:
    """Write the token file, the list of spoken captions and the three split lists (80, 10 and 10 percent)."""
    numbered = [(name, i, text) for name, five in zip(names, captions, strict=True) for i, text in enumerate(five)]
    tenth = len(names) // 10
    train = len(names) - 2 * tenth
    text = folder / _TEXT
    _write_lines(text / "Flickr8k.token.txt", [f"{name}.jpg#{i}\t{caption}" for name, i, caption in numbered])
    _write_lines(text / "Flickr_8k.trainImages.txt", [f"{name}.jpg" for name in names[:train]])
    _write_lines(text / "Flickr_8k.devImages.txt", [f"{name}.jpg" for name in names[train : train + tenth]])
    _write_lines(text / "Flickr_8k.testImages.txt", [f"{name}.jpg" for name in names[train + tenth :]])
    spoken = [f"{name}_{i}.wav {name}.jpg #{i}" for name, i, _ in numbered]
    _write_lines(folder / _AUDIO / "wav2capt.txt", spoken)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def add_demo_data(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``demo-data``."""
    defaults = Settings()
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument("folder", metavar="DIR", type=Path, help="where to write; created if missing")
    for flag, metavar, default, text in (
        ("--images", "N", defaults.images, "number of scenes (default: %(default)s)"),
        ("--seed", "S", defaults.seed, "seed of the random scenes (default: %(default)s)"),
        ("--side", "PX", defaults.side_px, "width and height of a picture in pixels (default: %(default)s)"),
        ("--processes", "P", None, "number of parallel eSpeak NG processes (default: number of cores)"),
    ):
        parser.add_argument(flag, type=int, metavar=metavar, default=default, help=text)


def demo_data(options: argparse.Namespace) -> int:
    """Write a data set with the settings of the command line; return the exit code."""
    started = time.perf_counter()
    try:
        settings = Settings(options.images, options.seed, options.side)
        written = write_synthetic(options.folder, settings, options.processes)
    except (DataError, ValueError, SpeechError, OSError) as error:
        _say(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        _say("interrupted: nothing was written")
        return 130
    end = f" written in {time.perf_counter() - started:.0f} s" if written else ", already there"
    captions = settings.images * CAPTIONS_PER_SCENE
    _say(f"{options.folder}: {settings.images} scenes with {captions} spoken captions{end}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201 - this is a command line
