"""``python -m benchmarks.rendering``: a heatmap from numbers to PNG, compared with imshow, colorbar and ``add_figure``.

Both sides draw the same 64 x 64 matrices at the same size in pixels, in turns, with new numbers at each draw. The
peer's time covers all that tensorboardX's ``SummaryWriter.add_figure`` does before its queue.
"""

from collections.abc import Callable
from time import perf_counter_ns
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from tensorboardX import summary
from tensorboardX.utils import figure_to_image

from benchmarks.measure import Timing, begin, format_ns, print_table
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.layer_overview import layer_overview
from tensorboard_sidecar.logger_service.rendering.pictures import contact_sheet
from tensorboard_sidecar.telemetry.values.summaries import Summarizer

Matrix = npt.NDArray[np.float32]
Draw = Callable[[int], object]

_SIDE: Final = 64
_LAYERS: Final = 62  # as many as a ResNet-18 has
_PICTURES: Final = 16
_DPI: Final = 128


def main() -> None:
    """Measure and print a table."""
    draws = max(begin(__doc__, draws=(50, "draws of each kind")).draws, 2)
    generator = np.random.default_rng(0)
    matrices = [_similarities(generator) for _ in range(draws + 1)]
    peer, ours = "imshow + colorbar + add_figure", "ours: heatmap"
    start = perf_counter_ns()
    size = _draw_ours(matrices[0], 0)
    first_ns = perf_counter_ns() - start
    timings = _measure(
        {
            peer: lambda step: _draw_peer(matrices[step], step, size),
            ours: lambda step: _draw_ours(matrices[step], step),
            f"ours: overview of {_LAYERS} layers": _overview(generator),
            f"ours: {_PICTURES} pictures with captions": _sheet(generator),
        },
        draws,
    )
    ratio = timings[peer].percentile_ns(50) / timings[ours].percentile_ns(50)
    print(f"Our heatmap is {ratio:.1f} times as fast; the first heatmap of a layout took {format_ns(first_ns)}.")
    rows = [[name, *(format_ns(timing.percentile_ns(n)) for n in (50, 95))] for name, timing in timings.items()]
    title = f"{_SIDE} x {_SIDE} heatmaps of {size[0]} x {size[1]} pixels, {draws} draws"
    print_table(title, ["", "p50", "p95"], rows)


def _measure(kinds: dict[str, Draw], draws: int) -> dict[str, Timing]:
    """Draw the kinds in turns, so that a busy moment of the machine slows all kinds; drop the first turn."""
    durations_ns: dict[str, list[int]] = {name: [] for name in kinds}
    for step in range(draws + 1):
        for name, draw in kinds.items():
            start = perf_counter_ns()
            draw(step)
            durations_ns[name].append(perf_counter_ns() - start)
    return {name: Timing(tuple(sorted(times[1:]))) for name, times in durations_ns.items()}


def _similarities(generator: np.random.Generator) -> Matrix:
    values = generator.normal(0.1, 0.2, (_SIDE, _SIDE)) + 0.7 * np.eye(_SIDE)
    return np.clip(values, -1, 1).astype(np.float32)


def _draw_ours(values: Matrix, step: int) -> tuple[int, int]:
    words = {"title": "similarity/text_vs_image", "row_label": "text", "column_label": "image"}
    picture = heatmap(values, value_range=(-1.0, 1.0), step=step, **words)
    return picture.width, picture.height


def _draw_peer(values: Matrix, step: int, size: tuple[int, int]) -> None:
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI)
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    figure.colorbar(image)
    axes.set_title(f"similarity/text_vs_image step {step}")
    axes.set_xlabel("image")
    axes.set_ylabel("text")
    summary.image("similarity/text_vs_image", figure_to_image(figure), dataformats="CHW")


def _overview(generator: np.random.Generator) -> Draw:
    values = generator.normal(0, 0.05, (_LAYERS, 10_000)).astype(np.float32)
    tensors = {f"weights/layer{i}.conv.weight": tensor for i, tensor in enumerate(torch.from_numpy(values))}
    layers = list(Summarizer().summarize_all(tensors).items())
    return lambda step: layer_overview(layers, title="histograms/weights", step=step)


def _sheet(generator: np.random.Generator) -> Draw:
    images = generator.integers(0, 256, (_PICTURES, 96, 96, 3), np.uint8)
    captions = [f"A small red circle to the left of square number {i}" for i in range(_PICTURES)]
    return lambda step: contact_sheet(images, captions, title="samples/images", step=step)


if __name__ == "__main__":
    main()
