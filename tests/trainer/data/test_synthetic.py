import fcntl
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.trainer.data.flickr8k import read_flickr8k
from tensorboard_sidecar.trainer.data.report import DataError
from tensorboard_sidecar.trainer.data.scenes import CAPTIONS_PER_SCENE
from tensorboard_sidecar.trainer.data.speech import SpeechError
from tensorboard_sidecar.trainer.data.synthetic import Settings, write_synthetic

SMALL = Settings(images=12, seed=5, side_px=64)


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_reader_takes_it_for_a_published_flickr8k(synthetic: Path) -> None:
    data = read_flickr8k(synthetic)
    assert data.report.problems == ()
    assert [len(data.train), len(data.validation), len(data.test)] == [50, 5, 5]
    assert len({pair.caption for pair in data.train}) > 40


def test_pictures_are_jpeg_and_recordings_16_khz_mono(synthetic: Path) -> None:
    for pair in read_flickr8k(synthetic).train:
        with Image.open(pair.image) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
        info = soundfile.info(pair.audio)
        assert (info.samplerate, info.channels, info.subtype, info.format) == (16_000, 1, "PCM_16", "WAV")
        assert 1.0 < info.duration < 4.0
        assert np.abs(soundfile.read(pair.audio)[0]).max() > 0.1


def test_recordings_speak_their_own_captions(synthetic: Path) -> None:
    """Longer captions take longer, even with different voices and speeds; shuffled recordings would fail this test."""
    pairs = read_flickr8k(synthetic).train
    letters = [len(pair.caption) for pair in pairs]
    seconds = [soundfile.info(pair.audio).duration for pair in pairs]
    assert np.corrcoef(letters, seconds)[0, 1] > 0.6
    assert abs(np.corrcoef(letters, seconds[1:] + seconds[:1])[0, 1]) < 0.4


def test_the_same_settings_give_the_same_bytes(synthetic: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, SMALL, processes=1)
    assert _digests(tmp_path) == _digests(synthetic)


def test_another_seed_gives_other_pictures_words_and_voices(synthetic: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path, Settings(images=12, seed=6, side_px=64))
    one, other = _digests(synthetic), _digests(tmp_path)
    assert one.keys() == other.keys()
    same = {name for name in one if one[name] == other[name]}
    assert same == {name for name in one if "Images.txt" in name or "wav2capt" in name}


def test_a_finished_folder_is_left_as_it_is(synthetic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in synthetic.rglob("*")}
    assert not write_synthetic(synthetic, SMALL)
    assert main(["demo-data", str(synthetic), "--images", "12", "--seed", "5", "--side", "64"]) == 0
    assert "already there" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in synthetic.rglob("*")} == before


def test_a_folder_with_other_settings_is_refused(synthetic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo-data", str(synthetic), "--images", "12", "--seed", "6"]) == 2
    error = capsys.readouterr().err
    assert '"seed": 6' in error
    assert '"seed": 5' in error


def test_a_folder_that_holds_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"thesis\.tex"):
        write_synthetic(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failure_in_the_middle_leaves_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorboard_sidecar.trainer.data.speech.VOICES", ("en-us", "nobody"))
    with pytest.raises(SpeechError):
        write_synthetic(tmp_path, SMALL)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_leaves_is_no_data_set_and_the_next_one_begins_anew(
    synthetic: Path, tmp_path: Path
) -> None:
    half = tmp_path / ".unfinished" / "Flicker8k_Dataset"
    half.mkdir(parents=True)
    (half / "scene_00000.jpg").write_bytes(b"half a pic")
    with pytest.raises(DataError, match="no Flickr8k"):
        read_flickr8k(tmp_path)
    assert write_synthetic(tmp_path, SMALL)
    assert _digests(tmp_path) == _digests(synthetic)


def test_captions_are_moved_into_place_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between two moves leaves a folder without captions, which no reader takes for a data set."""
    moved: list[str] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watched)
    write_synthetic(tmp_path, SMALL)
    assert moved[-1] == "Flickr8k_text"
    assert len(moved) == 3


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(DataError, match="another process"):
            write_synthetic(tmp_path, SMALL)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("arguments", [["--images", "3"], ["--images", "1000000"], ["--side", "8"]])
def test_sizes_that_cannot_be_made_are_refused_before_anything_is_written(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo-data", str(tmp_path / "new"), *arguments]) == 2
    assert "expected" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_command_line_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo-data", str(tmp_path / "a" / "b"), "--images", "10", "--side", "32"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("drawn")] == [
        f"drawn and spoken: {number} of 10 scenes" for number in (2, 5, 7, 10)
    ]
    assert f"10 scenes with {10 * CAPTIONS_PER_SCENE} spoken captions written" in said[-1]
    assert read_flickr8k(tmp_path / "a" / "b").validation


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["demo-data", "--help"])
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in ("--images", "--seed", "--side", "--processes", "default: 640", "--root_dir DIR"):
        assert word in text
