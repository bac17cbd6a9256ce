from tensorboardX.proto.layout_pb2 import Layout as LayoutProto

from tensorboard_sidecar.logger_service.events.custom_scalars import layout_value
from tensorboard_sidecar.protocol.messages import Chart, Layout


def test_a_layout_keeps_categories_charts_and_tags_in_order() -> None:
    charts = {"b": Chart("multiline", ["^loss/.*$", "^x$"]), "a": Chart("margin", ["mean", "low", "high"])}
    value = layout_value(Layout({"second": charts, "first": {}}))
    layout = LayoutProto.FromString(value.tensor.string_val[0])
    assert value.tag == "custom_scalars__config__"
    assert [category.title for category in layout.category] == ["second", "first"]
    lines, margin = layout.category[0].chart
    assert (lines.title, list(lines.multiline.tag)) == ("b", ["^loss/.*$", "^x$"])
    series = margin.margin.series[0]
    assert (margin.title, series.value, series.lower, series.upper) == ("a", "mean", "low", "high")
