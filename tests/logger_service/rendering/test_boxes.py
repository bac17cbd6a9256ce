"""Pictures with boxes: frames where the boxes are, labels inside the picture, nothing outside."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.rendering.boxes import draw_boxes
from tensorboard_sidecar.logger_service.rendering.canvas import Picture
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge

Pixels = npt.NDArray[np.uint8]
Decode = Callable[[Picture], Pixels]
GREY = np.full((60, 80, 3), 128, np.uint8)


def boxes(*corners: tuple[float, float, float, float]) -> npt.NDArray[np.float32]:
    return np.array(corners, np.float32).reshape(-1, 4)


def red(shown: Pixels) -> npt.NDArray[np.bool_]:
    return (shown == (255, 0, 0)).all(axis=2)


def test_a_frame_lies_on_the_sides_of_its_box_and_nowhere_else(decode: Decode) -> None:
    shown = red(decode(draw_boxes(GREY, boxes((10, 20, 50, 40)))))
    expected = np.zeros((60, 80), bool)
    expected[19:41, 9:51] = True
    expected[21:39, 11:49] = False
    np.testing.assert_array_equal(shown, expected)


def test_a_picture_without_boxes_is_what_came(decode: Decode) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode(draw_boxes(noise, boxes())), noise)
    np.testing.assert_array_equal(decode(draw_boxes(noise[:, :, :1], boxes())), noise[:, :, :1].repeat(3, axis=2))


def test_corners_in_any_order_and_outside_of_the_picture_are_drawn_as_far_as_seen(decode: Decode) -> None:
    swapped = decode(draw_boxes(GREY, boxes((50, 40, 10, 20))))
    np.testing.assert_array_equal(swapped, decode(draw_boxes(GREY, boxes((10, 20, 50, 40)))))
    shown = red(decode(draw_boxes(GREY, boxes((-3e38, 20, 3e38, 40)))))
    assert shown[20].all()
    assert shown[40].all()
    assert not shown[21:39].any()
    assert not red(decode(draw_boxes(GREY, boxes((1e6, 1e6, 2e6, 2e6))))).any()


def test_a_label_is_dark_on_red_inside_its_box(decode: Decode) -> None:
    plain, labelled = (red(decode(draw_boxes(GREY, boxes((10, 10, 70, 50)), names))) for names in ([], ["cat"]))
    changed = np.argwhere(plain != labelled)
    assert len(changed) > 50
    assert (changed.min(axis=0) >= 10).all()
    assert (changed.max(axis=0) <= (50, 70)).all()


@pytest.mark.parametrize("scale", [0.5, 1.5, 3.0])
def test_boxes_are_scaled_with_their_picture(scale: float, decode: Decode) -> None:
    picture = draw_boxes(GREY, boxes((20, 20, 60, 40)), scale=scale)
    assert (picture.width, picture.height) == (int(80 * scale), int(60 * scale))
    rows, columns = np.nonzero(red(decode(picture)))
    found = [columns.min(), rows.min(), columns.max(), rows.max()]
    np.testing.assert_allclose(found, np.array([20, 20, 60, 40]) * scale, atol=1.5)


def test_the_same_boxes_give_the_same_bytes() -> None:
    one, other = (draw_boxes(GREY.copy(), boxes((10, 10, 70, 50)), ["a ä 猫"], scale=2.0) for _ in range(2))
    assert one == other


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 20),
    st.integers(1, 20),
    st.lists(st.tuples(*[st.floats(-50, 50, width=32)] * 4), max_size=3),
    st.text(max_size=30),
    st.floats(0.05, 3),
)
def test_any_box_and_any_label_is_drawn(
    height: int, width: int, corners: list[tuple[float, float, float, float]], label: str, scale: float
) -> None:
    picture = draw_boxes(np.zeros((height, width, 4), np.uint8), boxes(*corners), [label] * len(corners), scale=scale)
    assert (picture.width, picture.height) == (max(1, int(width * scale)), max(1, int(height * scale)))


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(Malformed, match="2 labels for 1 boxes"):
        draw_boxes(GREY, boxes((0, 0, 1, 1)), ["a", "b"])
    with pytest.raises(Malformed):
        draw_boxes(GREY[:, :, :2], boxes())
    with pytest.raises(TooLarge):
        draw_boxes(GREY, boxes(), scale=1_000.0)
