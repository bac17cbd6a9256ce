"""Small data sets of real files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tensorboard_sidecar.trainer.data.synthetic import Settings, write_synthetic

Captions = Mapping[str, Sequence[str]]
Writer = Callable[[Path, Captions], Path]


def _write_files(images: Path, audio: Path, captions: Captions) -> None:
    for folder in (images, audio / "wavs"):
        folder.mkdir(parents=True)
    spoken = []
    for number, (name, texts) in enumerate(captions.items()):
        Image.new("RGB", (60 + number, 40), (number % 256, 128, 64)).save(images / name, "JPEG")
        for index in range(len(texts)):
            wav = f"{Path(name).stem}_{index}.wav"
            tone = 0.3 * np.sin(np.arange(1600) * (0.1 + 0.01 * index))
            soundfile.write(audio / "wavs" / wav, tone, 16_000, subtype="PCM_16")
            spoken.append(f"{wav} {name} #{index}\n")
    (audio / "wav2capt.txt").write_text("".join(spoken), encoding="utf-8")


@pytest.fixture
def write_published() -> Writer:
    """Write a folder as published: token file and split lists, images divided 8 : 1 : 1 in their order."""

    def write(root: Path, captions: Captions) -> Path:
        _write_files(root / "Flicker8k_Dataset", root / "flickr_audio", captions)
        text = root / "Flickr8k_text"
        text.mkdir()
        lines = [f"{name}#{i}\t{text}\n" for name, texts in captions.items() for i, text in enumerate(texts)]
        (text / "Flickr8k.token.txt").write_text("".join(lines), encoding="utf-8")
        names = [f"{name}\n" for name in captions]
        tenth = max(1, len(names) // 10)
        splits = {"train": names[: -2 * tenth], "dev": names[-2 * tenth : -tenth], "test": names[-tenth:]}
        for split, listed in splits.items():
            (text / f"Flickr_8k.{split}Images.txt").write_text("".join(listed), encoding="utf-8")
        return root

    return write


@pytest.fixture
def write_reupload() -> Writer:
    """Write a folder as commonly uploaded again: `Images/` and `captions.txt`, every caption in quotes."""

    def write(root: Path, captions: Captions) -> Path:
        _write_files(root / "Images", root / "flickr_audio", captions)
        quoted = [(name, text.replace('"', '""')) for name, texts in captions.items() for text in texts]
        lines = ["image,caption\n", *(f'{name},"{text}"\n' for name, text in quoted)]
        (root / "captions.txt").write_text("".join(lines), encoding="utf-8")
        return root

    return write


@pytest.fixture
def twelve() -> dict[str, list[str]]:
    """Captions of twelve images, two each."""
    return {f"{i:04d}_photo.jpg": [f"A dog number {i} .", f"Dog, {i} of twelve ."] for i in range(12)}


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a synthetic data set of twelve scenes, read-only for tests."""
    folder = tmp_path_factory.mktemp("synthetic")
    assert write_synthetic(folder, Settings(images=12, seed=5, side_px=64))
    return folder
