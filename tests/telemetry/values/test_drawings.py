"""Videos, and pictures with boxes."""

from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tensorboard_sidecar.telemetry.values.drafts import Draft
from tensorboard_sidecar.telemetry.values.drawings import boxes, video

if TYPE_CHECKING:
    from tensorboard_sidecar.protocol.messages import Boxes, Video

PICTURE = torch.rand(3, 8, 6)


def no_note(error: Exception) -> None:
    raise error


def made(draft: Draft) -> Any:
    return draft.build([tensor.numpy() for tensor in draft.tensors])


@pytest.mark.parametrize("letters", list(permutations("NTCHW"))[::7])
def test_a_video_comes_in_any_order_of_letters(letters: tuple[str, ...]) -> None:
    frames = torch.randint(0, 255, (2, 3, 1, 4, 5), dtype=torch.uint8)
    given = frames.permute(["NTCHW".index(letter) for letter in letters])
    message = made(video("v", given, 4, "".join(letters).lower(), no_note))
    assert message.frames_per_second == 4.0
    np.testing.assert_array_equal(message.frames.numpy(), frames.permute(0, 1, 3, 4, 2).numpy())


def test_a_video_that_is_too_large_is_reduced() -> None:
    notes: list[Exception] = []
    message: Video = made(video("v", torch.ones(2, 4, 3, 64, 32), 4, "NTCHW", notes.append, size_max_bytes=20_000))
    assert message.frames.shape == (2, 4, 32, 16, 3)
    assert len(notes) == 1


def test_a_video_that_is_too_long_loses_frames_at_its_end() -> None:
    notes: list[Exception] = []
    message: Video = made(video("v", torch.ones(2, 40, 1, 4, 4), 4, "NTCHW", notes.append, size_max_bytes=20_000))
    assert message.frames.shape == (2, 9, 4, 4, 1)
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("frames", "fps", "letters"),
    [
        *((PICTURE, 4, "NTCHW"), (torch.ones(1, 2, 5, 4, 4), 4, "NTCHW"), (torch.ones(1, 0, 3, 4, 4), 4, "NTCHW")),
        *((torch.ones(1, 2, 3, 4, 4), 0, "NTCHW"), (torch.ones(1, 2, 3, 4, 4), "fast", "NTCHW")),
        *((torch.ones(1, 2, 3, 4, 4), 4, "NTCHH"), (torch.ones(1, 2, 3, 4, 4), 4, None), (None, 4, "NTCHW")),
        *((torch.ones(1, 2, 3, 4, 4), float("nan"), "NTCHW"), (object(), 4, "NTCHW")),
    ],
)
def test_what_is_no_video_is_an_error(frames: Any, fps: Any, letters: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        video("v", frames, fps, letters, no_note)


def test_a_picture_has_boxes_and_labels() -> None:
    message: Boxes = made(boxes("b", PICTURE, [[1, 2, 3, 4], [2, 3, 4, 5]], ["a", "b"], 2, "CHW", no_note))
    assert message.image.shape == (8, 6, 3)
    assert message.boxes.numpy().tolist() == [[1, 2, 3, 4], [2, 3, 4, 5]]
    assert (message.labels, message.scale) == (["a", "b"], 2.0)


def test_no_boxes_and_a_single_box_are_boxes() -> None:
    assert made(boxes("b", PICTURE, np.ones((0, 4)), None, 1, "CHW", no_note)).boxes.shape == (0, 4)
    assert made(boxes("b", PICTURE, np.ones(0), None, 1, "CHW", no_note)).boxes.shape == (0, 4)
    assert made(boxes("b", PICTURE, np.ones(4), "a", 1, "CHW", no_note)).labels == ["a"]


def test_several_pictures_become_a_grid_of_eight_columns() -> None:
    pictures = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 1, 2, 3) + 100
    message: Boxes = made(boxes("b", pictures, np.ones((1, 4)), None, 1, "NCHW", no_note))
    expected = np.zeros((4, 24, 1), np.uint8)
    for place in range(10):
        row, column = divmod(place, 8)
        expected[2 * row : 2 * row + 2, 3 * column : 3 * column + 3] = 100 + place
    np.testing.assert_array_equal(message.image.numpy(), expected)


def test_boxes_shrink_with_a_picture_that_is_too_large() -> None:
    notes: list[Exception] = []
    picture = torch.ones(1, 4, 9_000, dtype=torch.uint8) * 100
    message: Boxes = made(boxes("b", picture, [[10.0, 2.0, 20.0, 4.0]], None, 1, "CHW", notes.append))
    assert message.image.shape == (2, 4_500, 1)
    assert message.boxes.numpy().tolist() == [[5.0, 1.0, 10.0, 2.0]]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("picture", "corners", "scale", "layout"),
    [
        *((PICTURE, np.ones((2, 3)), 1, "CHW"), (PICTURE, np.ones(3), 1, "CHW"), (PICTURE, None, 1, "CHW")),
        *((PICTURE, np.ones(4), 0, "CHW"), (PICTURE, np.ones(4), -1, "CHW"), (PICTURE, np.ones(4), "big", "CHW")),
        *((PICTURE, np.ones(4), 1, "CHH"), (None, np.ones(4), 1, "CHW"), (PICTURE, np.ones((1, 1, 4)), 1, "CHW")),
    ],
)
def test_what_is_no_picture_with_boxes_is_an_error(picture: Any, corners: Any, scale: Any, layout: str) -> None:
    with pytest.raises((ValueError, TypeError)):
        boxes("b", picture, corners, None, scale, layout, no_note)


def test_what_is_beyond_the_limits_is_cut_and_told() -> None:
    notes: list[Exception] = []
    message: Video = made(video("v", torch.ones(65, 3_001, 1, 1, 1), 2_000, "NTCHW", notes.append))
    assert (message.frames.shape, message.frames_per_second) == ((64, 1_023, 1, 1, 1), 1_000)
    assert len(notes) == 3
    drawn: Boxes = made(boxes("b", PICTURE, np.ones((1_001, 4)), ["a"] * 1_001, 1e9, "CHW", notes.append))
    assert (drawn.boxes.shape, len(drawn.labels)) == ((1_000, 4), 1_000)
    assert drawn.scale == pytest.approx(1_024)
    assert made(boxes("b", PICTURE, np.ones(4), None, 1e-9, "CHW", notes.append)).scale == pytest.approx(1 / 6)
    assert len(notes) == 6
