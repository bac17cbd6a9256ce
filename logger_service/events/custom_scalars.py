"""The layout of TensorBoard's custom scalars."""

from typing import Final

from tensorboardX.proto import layout_pb2

from tensorboard_sidecar.logger_service.events.values import Value, plugin_metadata, string_tensor
from tensorboard_sidecar.protocol.messages import Chart, Layout

# The one tag that tensorboard/plugins/custom_scalar/metadata.py looks for.
_TAG: Final = "custom_scalars__config__"


def layout_value(layout: Layout) -> Value:
    """Return the layout."""
    categories = [
        layout_pb2.Category(title=title, chart=[_chart(name, chart) for name, chart in charts.items()])
        for title, charts in layout.categories.items()
    ]
    content = layout_pb2.Layout(category=categories).SerializeToString()
    return Value(tag=_TAG, metadata=plugin_metadata("custom_scalars"), tensor=string_tensor([content]))


def _chart(title: str, chart: Chart) -> layout_pb2.Chart:
    if chart.kind == "multiline":
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=chart.tags))
    value, lower, upper = chart.tags
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    return layout_pb2.Chart(title=title, margin=layout_pb2.MarginChartContent(series=[series]))
