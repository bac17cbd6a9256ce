"""``python -m benchmarks.rendering``: a heatmap from numbers to PNG, compared with imshow, colorbar and ``add_figure``.

Both sides draw the same 64 x 64 matrices at the same size in pixels, in turns, with new numbers at each draw. The
peer's time covers all that tensorboardX's ``SummaryWriter.add_figure`` does before its queue.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from tensorboardX import summary
from tensorboardX.utils import figure_to_image

from benchmarks.measure import print_machine_speed
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.layer_overview import layer_overview
from tensorboard_sidecar.logger_service.rendering.pictures import contact_sheet
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.messages import TensorSummary

Matrix = npt.NDArray[np.float32]
Draw = Callable[[int], object]

_SIDE: Final = 64
_LAYERS: Final = 62  # as many as a ResNet-18 has
_PICTURES: Final = 16
_DPI: Final = 128


def main() -> None:
    """Print a table of milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50, help="draws of each kind (default: %(default)s)")
    draws = max(parser.parse_args().draws, 2)
    print_machine_speed()
    generator = np.random.default_rng(0)
    matrices = [_similarities(generator) for _ in range(draws + 1)]
    peer, ours = "imshow + colorbar + add_figure", "ours: heatmap"
    start = time.perf_counter_ns()
    size = _draw_ours(matrices[0], 0)
    first_ms = (time.perf_counter_ns() - start) / 1e6
    overview, sheet = _overview(generator), _sheet(generator)
    milliseconds = _measure(
        {
            peer: lambda step: _draw_peer(matrices[step], step, size),
            ours: lambda step: _draw_ours(matrices[step], step),
            f"ours: overview of {_LAYERS} layers": overview,
            f"ours: {_PICTURES} pictures with captions": sheet,
        },
        draws,
    )
    print(f"{_SIDE} x {_SIDE} heatmaps of {size[0]} x {size[1]} pixels, {draws} draws, milliseconds")
    ratio = statistics.median(milliseconds[peer]) / statistics.median(milliseconds[ours])
    print(f"Our heatmap is {ratio:.1f} times as fast; the first heatmap of a layout took {first_ms:.0f} ms.")
    print(f"{'':34}{'p50':>9}{'p95':>9}")
    for name, times in milliseconds.items():
        print(f"{name:34}{statistics.median(times):9.1f}{statistics.quantiles(times, n=20)[-1]:9.1f}")


def _measure(kinds: dict[str, Draw], draws: int) -> dict[str, list[float]]:
    """Draw the kinds in turns, so that a busy moment of the machine slows all kinds; drop the first turn."""
    milliseconds: dict[str, list[float]] = {name: [] for name in kinds}
    for step in range(draws + 1):
        for name, draw in kinds.items():
            start = time.perf_counter_ns()
            draw(step)
            milliseconds[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: times[1:] for name, times in milliseconds.items()}


def _similarities(generator: np.random.Generator) -> Matrix:
    values = generator.normal(0.1, 0.2, (_SIDE, _SIDE)) + 0.7 * np.eye(_SIDE)
    return np.clip(values, -1, 1).astype(np.float32)


def _draw_ours(values: Matrix, step: int) -> tuple[int, int]:
    picture = heatmap(
        values,
        title="similarity/text_vs_image",
        row_label="text",
        column_label="image",
        value_range=(-1.0, 1.0),
        step=step,
    )
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
    layers = [(f"weights/layer{i}.conv.weight", _summary(generator)) for i in range(_LAYERS)]
    return lambda step: layer_overview(layers, title="histograms/weights", step=step)


def _summary(generator: np.random.Generator) -> TensorSummary:
    values = generator.normal(0, 0.05, 10_000).astype(np.float32)
    indexes, counts = np.unique((values.view(np.uint32) >> 20).astype(np.uint16), return_counts=True)
    return TensorSummary(
        count=values.size,
        zeros=0,
        nans=0,
        positive_infinities=0,
        negative_infinities=0,
        minimum=float(values.min()),
        maximum=float(values.max()),
        sum=float(values.sum()),
        sum_squares=float((values * values).sum()),
        mantissa_bits=3,
        indexes=pack_array(indexes),
        counts=pack_array(counts.astype(np.uint64)),
    )


def _sheet(generator: np.random.Generator) -> Draw:
    images = generator.integers(0, 256, (_PICTURES, 96, 96, 3), np.uint8)
    captions = [f"A small red circle to the left of square number {i}" for i in range(_PICTURES)]
    return lambda step: contact_sheet(images, captions, title="samples/images", step=step)


if __name__ == "__main__":
    main()
