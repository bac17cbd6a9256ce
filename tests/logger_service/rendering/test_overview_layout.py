import pytest

from tensorboard_sidecar.logger_service.rendering.overview_layout import HEIGHT_MAX, lay_out
from tensorboard_sidecar.logger_service.rendering.text import ELLIPSIS
from tensorboard_sidecar.protocol.limits import IMAGE_SIDE_MAX, TAGS_MAX

SPAN = (-24, 4)


def test_shared_folders_are_left_out() -> None:
    names = ["weights/conv1.weight", "weights/conv1.bias"]
    assert lay_out(names, SPAN).names == ("conv1.weight", "conv1.bias")
    assert lay_out(["a/b", "c/d"], SPAN).names == ("a/b", "c/d")
    assert lay_out(["", "/"], SPAN).names == ("", "/")


def test_long_names_are_cut_on_the_left_up_to_a_dot() -> None:
    name = "model.encoder.transformer.layers.11.self_attention.query.weight"
    shown = lay_out([name], SPAN).names[0]
    assert shown.startswith(ELLIPSIS)
    assert name.endswith("." + shown.removeprefix(ELLIPSIS))


def test_a_long_name_without_a_dot_is_cut_where_it_must_be() -> None:
    shown = lay_out(["W" * 4096], SPAN).names[0]
    assert shown.startswith(ELLIPSIS + "W")
    assert lay_out(["W" * 4096], SPAN).names_width <= 340


@pytest.mark.parametrize("layers", [1, 2, 10, 62, 400, 401, HEIGHT_MAX + 1, TAGS_MAX])
def test_any_number_of_layers_gives_a_picture_within_limits(layers: int) -> None:
    layout = lay_out([f"layer{i}" for i in range(layers)], SPAN)
    assert layout.rows_height <= HEIGHT_MAX
    assert max(layout.size) <= IMAGE_SIDE_MAX
    assert layout.stride * layout.row_height >= 11, "names do not overlap"
    assert len(layout.names) == -(-layout.rows // layout.stride)


def test_up_to_400_layers_each_has_its_name() -> None:
    assert lay_out([f"layer{i}" for i in range(400)], SPAN).stride == 1


@pytest.mark.parametrize("span", [(-12, 0), (-40, 4), (-136, 128)])
def test_parts_stand_beside_each_other_whatever_the_span(span: tuple[int, int]) -> None:
    layout = lay_out(["a", "b"], span)
    places = (layout.zeros_x, layout.octaves_x, layout.not_finite_x, layout.bar_x, layout.size[0])
    assert list(places) == sorted(set(places))
    assert layout.octaves_width <= 560
