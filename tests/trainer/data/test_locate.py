from pathlib import Path

import pytest

from tensorboard_sidecar.trainer.data.locate import locate
from tensorboard_sidecar.trainer.data.report import DataError


def _files(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


PUBLISHED_TEXT = (
    "Flickr8k.token.txt",
    "Flickr_8k.trainImages.txt",
    "Flickr_8k.devImages.txt",
    "Flickr_8k.testImages.txt",
)


@pytest.mark.parametrize("images", ["Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images"])
@pytest.mark.parametrize("text", ["Flickr8k_text/", "", "unpacked/"])
@pytest.mark.parametrize("audio", ["flickr_audio/", "", "unpacked/flickr_audio/"])
def test_the_published_parts_are_found_where_archives_put_them(
    tmp_path: Path, images: str, text: str, audio: str
) -> None:
    listed = [f"{text}{name}" for name in PUBLISHED_TEXT]
    _files(tmp_path, f"{images}/a.jpg", *listed, f"{audio}wav2capt.txt", f"{audio}wavs/a_0.wav")
    parts = locate(tmp_path)
    assert parts.images == tmp_path / images
    assert parts.captions == tmp_path / listed[0]
    assert not parts.captions_are_csv
    assert parts.splits == tuple(tmp_path / name for name in listed[1:])
    assert parts.audio == tmp_path / audio / "wavs"


def test_the_re_upload_is_found(tmp_path: Path) -> None:
    _files(tmp_path, "Images/a.jpg", "captions.txt", "flickr_audio/wav2capt.txt", "flickr_audio/wavs/a_0.wav")
    parts = locate(tmp_path)
    assert parts.captions_are_csv
    assert parts.splits is None


def test_a_folder_within_a_folder_and_what_zip_adds_do_not_mislead(tmp_path: Path) -> None:
    _files(tmp_path, "Flickr8k_Dataset/Flicker8k_Dataset/a.jpg", "__MACOSX/Flicker8k_Dataset/._a.jpg")
    _files(tmp_path, "captions.txt", "wav2capt.txt", "wavs/a_0.wav")
    assert locate(tmp_path).images == tmp_path / "Flickr8k_Dataset" / "Flicker8k_Dataset"


def test_one_missing_split_list_means_none(tmp_path: Path) -> None:
    _files(tmp_path, "Images/a.jpg", "captions.txt", "wav2capt.txt", "wavs/a_0.wav", "Flickr_8k.trainImages.txt")
    assert locate(tmp_path).splits is None


def test_a_folder_that_is_no_flickr8k_is_refused_with_all_that_was_looked_for(tmp_path: Path) -> None:
    _files(tmp_path, "holiday.jpg", "wavs/note.wav", "Images/readme.txt")
    with pytest.raises(DataError) as caught:
        locate(tmp_path)
    message = str(caught.value)
    for part in (str(tmp_path), "Flicker8k_Dataset", "Images", "Flickr8k.token.txt", "captions.txt", "wav2capt.txt"):
        assert part in message
    assert "folder of spoken captions" not in message
    assert "tensorboard-sidecar demo-data DIR" in message


def test_a_folder_that_does_not_exist_is_refused_in_the_same_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder of pictures.*no such folder.*tensorboard-sidecar demo-data DIR"):
        locate(tmp_path / "flikr8k")
