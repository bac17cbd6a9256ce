import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.flickr8k import Flickr8k, Pair, locate, read_flickr8k, split_by_hash
from tensorboard_sidecar.trainer.data.limits import CAPTIONS_PER_IMAGE_MAX
from tensorboard_sidecar.trainer.data.report import DataError

Captions = dict[str, list[str]]
Writer = Callable[[Path, Captions], Path]

WORLD: Captions = {
    "a.jpg": ["A dog, running .", 'The "big" dog .'],
    "b.jpg": ["一只狗在草地上跑。", "狗"],
    "c.jpg": ["كلب يجري على العشب", "कुत्ता दौड़ रहा है"],
    "d.jpg": ["🐕 runs 🏃‍♀️!", "Ein Hund läuft über die Straße ."],
    **{f"{i}.jpg": [f"Picture {i}", "Again ,, and again"] for i in range(8)},
}


def _all(data: Flickr8k) -> list[Pair]:
    return [*data.train, *data.validation, *data.test]


def _captions(data: Flickr8k) -> dict[tuple[str, int], str]:
    return {(pair.image_name, pair.caption_index): pair.caption for pair in _all(data)}


def _problem(data: Flickr8k, what: str) -> tuple[int, tuple[str, ...]]:
    (found,) = (problem for problem in data.report.problems if what in problem.kind)
    return found.count, found.examples


def test_the_published_layout_is_read_with_its_splits(tmp_path: Path, write_published: Writer) -> None:
    data = read_flickr8k(write_published(tmp_path, WORLD))
    assert [len(data.train), len(data.validation), len(data.test)] == [20, 2, 2]
    assert data.report.problems == ()
    first = data.train[0]
    assert first == Pair(
        image=tmp_path / "Flicker8k_Dataset" / "a.jpg",
        audio=tmp_path / "flickr_audio" / "wavs" / "a_0.wav",
        caption="A dog, running .",
        image_name="a.jpg",
        caption_index=0,
    )
    assert {pair.image_name for pair in data.validation} == {"6.jpg"}
    assert {pair.image_name for pair in data.test} == {"7.jpg"}


@pytest.mark.parametrize("layout", ["write_published", "write_reupload"])
def test_captions_of_any_language_arrive_as_written(
    tmp_path: Path, layout: str, request: pytest.FixtureRequest
) -> None:
    write: Writer = request.getfixturevalue(layout)
    data = read_flickr8k(write(tmp_path, WORLD))
    assert _captions(data) == {(name, i): text for name, texts in WORLD.items() for i, text in enumerate(texts)}


def test_both_layouts_pair_the_same_captions_with_the_same_recordings(
    tmp_path: Path, write_published: Writer, write_reupload: Writer
) -> None:
    one = read_flickr8k(write_published(tmp_path / "one", WORLD))
    other = read_flickr8k(write_reupload(tmp_path / "other", WORLD))
    assert {(p.caption, p.audio.name) for p in _all(one)} == {(p.caption, p.audio.name) for p in _all(other)}


def test_without_split_lists_images_are_divided_by_hash_and_the_report_says_so(
    tmp_path: Path, write_published: Writer
) -> None:
    root = write_published(tmp_path, WORLD)
    (root / "Flickr8k_text" / "Flickr_8k.devImages.txt").unlink()
    data = read_flickr8k(root)
    assert data == read_flickr8k(root)
    assert data.validation
    assert any("hash" in note for note in data.report.notes)
    by_split = [{pair.image_name for pair in pairs} for pairs in (data.train, data.validation, data.test)]
    assert sum(len(names) for names in by_split) == len(set.union(*by_split)) == len(WORLD)


def test_missing_and_broken_files_cost_their_pairs_and_are_named(
    tmp_path: Path, write_published: Writer, twelve: Captions
) -> None:
    root = write_published(tmp_path, twelve)
    images, wavs = root / "Flicker8k_Dataset", root / "flickr_audio" / "wavs"
    (images / "0000_photo.jpg").unlink()
    (images / "0001_photo.jpg").write_bytes(b"")
    (images / "0002_photo.jpg").write_bytes(b"<html>404 Not Found</html>" * 10)
    (wavs / "0003_photo_0.wav").unlink()
    (wavs / "0004_photo_1.wav").write_bytes(b"")
    os.mkfifo(wavs / "pipe.wav")
    (wavs / "pipe.wav").replace(wavs / "0005_photo_0.wav")
    data = read_flickr8k(root)
    assert len(data.train) == 20 - 6 - 3
    assert _problem(data, "pictures missing") == (1, ("0000_photo.jpg (No such file or directory)",))
    assert _problem(data, "pictures broken") == (2, ("0001_photo.jpg", "0002_photo.jpg"))
    assert _problem(data, "recordings missing")[0] == 1
    assert _problem(data, "recordings broken") == (2, ("0004_photo_1.wav", "0005_photo_0.wav"))


def test_captions_nobody_speaks_are_left_out_and_said_once(
    tmp_path: Path, write_published: Writer, twelve: Captions
) -> None:
    root = write_published(tmp_path, twelve)
    spoken = root / "flickr_audio" / "wav2capt.txt"
    lines = spoken.read_text().splitlines()
    spoken.write_text("\n".join(line for line in lines if not line.endswith("#1")))
    data = read_flickr8k(root)
    assert {pair.caption_index for pair in _all(data)} == {0}
    assert _problem(data, "nobody speaks")[0] == 12
    assert sum("nobody speaks" in line for line in data.report.lines()) == 1


def test_an_unusable_caption_keeps_its_number(tmp_path: Path, write_reupload: Writer, twelve: Captions) -> None:
    """In captions.txt the place is the number: a caption passed over must not shift the recordings of the next."""
    twelve["0000_photo.jpg"] = ["first", "BROKEN", "third", "UNCLOSED", "fifth", "LATIN", "seventh"]
    root = write_reupload(tmp_path, twelve)
    table = root / "captions.txt"
    raw = table.read_bytes().replace(b'"BROKEN"', b'""').replace(b'"UNCLOSED"', b'"UNCLOSED')
    table.write_bytes(raw.replace(b"LATIN", b"L\xe4tin"))
    data = read_flickr8k(root, split_seed=1)
    captions = {index: text for (name, index), text in _captions(data).items() if name == "0000_photo.jpg"}
    assert captions == {0: "first", 2: "third", 4: "fifth", 6: "seventh"}
    assert _problem(data, "captions left out")[0] == 3


def test_a_caption_given_twice_counts_once(tmp_path: Path, write_published: Writer, twelve: Captions) -> None:
    root = write_published(tmp_path, twelve)
    with (root / "Flickr8k_text" / "Flickr8k.token.txt").open("a") as file:
        file.write("0000_photo.jpg#0\tAnother text\n")
    data = read_flickr8k(root)
    assert _captions(data)["0000_photo.jpg", 0] == "A dog number 0 ."
    assert _problem(data, "given twice") == (1, ("0000_photo.jpg#0",))


def test_captions_beyond_the_limit_of_one_image_are_left_out(
    tmp_path: Path, write_reupload: Writer, twelve: Captions
) -> None:
    root = write_reupload(tmp_path, twelve)
    with (root / "captions.txt").open("a") as file:
        file.write("0000_photo.jpg,Again\n" * CAPTIONS_PER_IMAGE_MAX)
    assert _problem(read_flickr8k(root), "captions left out")[0] == 2


def test_images_in_no_list_or_in_two_are_reported(tmp_path: Path, write_published: Writer, twelve: Captions) -> None:
    root = write_published(tmp_path, twelve)
    text = root / "Flickr8k_text"
    (text / "Flickr_8k.testImages.txt").write_text("0000_photo.jpg\n")
    data = read_flickr8k(root)
    assert "0000_photo.jpg" in {pair.image_name for pair in data.train}
    assert data.test == ()
    assert _problem(data, "two split lists") == (1, ("0000_photo.jpg",))
    assert any(note.startswith("1 images are in no split list") for note in data.report.notes)


@pytest.mark.parametrize("header", ["a.jpg,A dog\n", "image;caption\n", "", "file,text\n"])
def test_a_captions_file_without_its_header_is_refused(
    tmp_path: Path, write_reupload: Writer, twelve: Captions, header: str
) -> None:
    table = write_reupload(tmp_path, twelve) / "captions.txt"
    table.write_text(table.read_text().replace("image,caption\n", header))
    with pytest.raises(DataError, match="image,caption"):
        read_flickr8k(tmp_path)


def test_a_data_set_without_one_usable_pair_is_refused_with_the_reasons(
    tmp_path: Path, write_published: Writer, twelve: Captions
) -> None:
    root = write_published(tmp_path, twelve)
    for image in (root / "Flicker8k_Dataset").iterdir():
        image.write_bytes(b"")
    with pytest.raises(DataError, match=r"12 pictures broken: 0000_photo\.jpg"):
        read_flickr8k(root)


def test_a_folder_that_does_not_exist_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        read_flickr8k(tmp_path / "nowhere")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rubbish=st.lists(st.binary(max_size=60), max_size=20),
    layout=st.sampled_from(["write_published", "write_reupload"]),
)
def test_rubbish_lines_cost_nothing_but_themselves(
    tmp_path: Path, request: pytest.FixtureRequest, twelve: Captions, rubbish: list[bytes], layout: str
) -> None:
    """With arbitrary bytes after its lines, each text file still gives all its pairs."""
    root = tmp_path / layout
    if not root.exists():
        request.getfixturevalue(layout)(root, twelve)
    before = read_flickr8k(root)
    for path in (path for path in root.rglob("*.txt") if "Images" not in path.name):
        kept = path.read_bytes()
        path.write_bytes(kept + b"\n" + b"\n".join(rubbish))
        after = read_flickr8k(root)
        path.write_bytes(kept)
        assert (after.train, after.validation, after.test) == (before.train, before.validation, before.test)


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


NAMES = [f"{number}.jpg" for number in range(2000)]


def test_about_eighty_ten_and_ten_in_a_hundred() -> None:
    train, validation, test = (len(split) / len(NAMES) for split in split_by_hash(NAMES, 0))
    assert abs(train - 0.8) < 0.03
    assert abs(validation - 0.1) < 0.02
    assert abs(test - 0.1) < 0.02


def test_the_split_is_the_same_on_every_machine() -> None:
    """Worked out with `printf '7:%s' NAME | sha256sum`; `hash()` would give others in every process."""
    _, validation, test = split_by_hash(["狗.jpg", *NAMES[:30]], 7)
    assert validation == {"10.jpg", "17.jpg", "21.jpg", "22.jpg", "23.jpg"}
    assert test == {"18.jpg"}


def test_another_seed_gives_another_split() -> None:
    assert split_by_hash(NAMES, 0) != split_by_hash(NAMES, 1)


def test_images_that_come_or_go_move_no_other_image() -> None:
    for whole, part in zip(split_by_hash(NAMES, 0), split_by_hash(NAMES[100:], 0), strict=True):
        assert part == whole - set(NAMES[:100])


@given(st.sets(st.text(max_size=20), max_size=60), st.integers())
def test_every_image_is_in_one_split_and_ten_images_give_a_validation_split(names: set[str], seed: int) -> None:
    train, validation, test = split_by_hash(names, seed)
    assert train | validation | test == names
    assert len(train) + len(validation) + len(test) == len(names)
    assert validation or len(names) < 10
