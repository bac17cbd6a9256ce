from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.split import split_by_hash

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
