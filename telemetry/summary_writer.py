"""A look-alike of ``torch.utils.tensorboard.SummaryWriter`` over a ``telemetry.Telemetry``.

Change the line that makes the writer; the loop stays as it is. Parameters have torch's names, order and defaults. The
differences are deliberate:

- No call touches a file. ``flush`` returns at once, there being nothing to flush on this side; after ``close`` nothing
  is written any more.
- A step left out is 0. Steps must not be negative, nor tensors on a device.
- The time of a record is that of the call, whatever ``walltime`` says. Histograms have their own buckets, whatever
  ``bins`` and ``max_bins`` say.
- ``add_scalars`` and ``add_hparams`` write into this run; torch's writer makes runs of them.
- What has no kind of record here is not kept. Such a call is a fault: said once, counted, and never raised.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from torch import Tensor

from tensorboard_sidecar.protocol.messages import Chart
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.telemetry.values.python_values import on_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from tensorboard_sidecar.telemetry.telemetry import Telemetry
    from tensorboard_sidecar.telemetry.values.arrays import ArrayLike
    from tensorboard_sidecar.telemetry.values.scalars import Scalar

_Method = TypeVar("_Method", bound=Callable[..., None])

INSTEAD: Final = {
    "add_figure": "drawing would make the loop wait; send numbers with telemetry.matrix, or a picture with add_image",
    "add_histogram_raw": "buckets are made from the values; send these with add_histogram",
    "add_image_with_boxes": "draw the boxes into the picture and send it with add_image",
    "add_mesh": "send points with add_embedding",
    "add_onnx_graph": "send the model with add_graph",
    "add_pr_curve": "send precision and recall with add_scalars",
    "add_pr_curve_raw": "send precision and recall with add_scalars",
    "add_tensor": "send its histogram with add_histogram, or a matrix with telemetry.matrix",
    "add_video": "send some of its pictures with add_images",
}
"""Torch's methods that have no kind of record here, and what there is instead."""


class NotKept(NotImplementedError):
    """A call that has no kind of record; the message says what there is instead."""


def _guarded(method: _Method) -> _Method:
    """Keep the contract for what is done before telemetry itself is called."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end training
            args[0].telemetry.faults.note(f"writer.{method.__name__}", error)

    return cast("_Method", call)


def _step(global_step: Any) -> int:
    """Return a step as torch's writer takes it: 0 for None, whole numbers of floats."""
    if type(global_step) is int:
        return global_step
    return 0 if global_step is None else int(on_host("global_step", global_step))


class SummaryWriter:
    """Each method keeps what torch's method of the same name would have written; ``log_dir`` is for those who ask.

    As everywhere in telemetry, nothing raises into the loop unless the telemetry is strict.
    """

    def __init__(self, telemetry: Telemetry, log_dir: str) -> None:
        self.telemetry = telemetry
        self.log_dir = log_dir

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, exc_val: BaseException | None, exc_tb: object) -> None:
        self.telemetry.__exit__(exc_type, exc_val, exc_tb)

    if not TYPE_CHECKING:  # whoever checks types is told before the run

        def __getattr__(self, name: str) -> Callable[..., None]:
            """Take calls of other ``add_`` methods, so that they do not end training."""
            if not name.startswith("add_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

            def not_kept(*_args: Any, **_keywords: Any) -> None:
                error = NotKept(f"not kept: {INSTEAD.get(name, 'there is no such method')}")
                self.telemetry.faults.note(f"writer.{name}", error)

            return not_kept

    def get_logdir(self) -> str:
        """Return the folder with this run's recording, or, without one, the run's name: its folder at the logger's."""
        return self.log_dir

    @_guarded
    def add_scalar(
        self,
        tag: str,
        scalar_value: Scalar,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Keep one number: a float, an int, or a tensor of one on any device."""
        step = global_step if type(global_step) is int else _step(global_step)  # the one call made in every step
        self.telemetry.scalars(step, {tag: scalar_value})

    @_guarded
    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Scalar],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep numbers under ``main_tag/<key>``."""
        values = {f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}
        self.telemetry.scalars(_step(global_step), values)

    @_guarded
    def add_histogram(
        self,
        tag: str,
        values: ArrayLike,
        global_step: int | None = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Keep a histogram of a tensor of any shape."""
        self.telemetry.summaries(_step(global_step), {tag: values})

    @_guarded
    def add_image(
        self,
        tag: str,
        img_tensor: ArrayLike,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Keep one picture; ``dataformats`` is CHW, HWC or HW."""
        self.telemetry.images(_step(global_step), tag, img_tensor, layout=dataformats.upper())

    @_guarded
    def add_images(
        self,
        tag: str,
        img_tensor: ArrayLike,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Keep several pictures; ``dataformats`` is NCHW or NHWC."""
        self.telemetry.images(_step(global_step), tag, img_tensor, layout=dataformats.upper())

    @_guarded
    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Keep markdown."""
        self.telemetry.text(_step(global_step), tag, text_string)

    @_guarded
    def add_audio(
        self,
        tag: str,
        snd_tensor: ArrayLike,
        global_step: int | None = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Keep a clip, ``[frames]`` or ``[channels, frames]``, floats in -1..1."""
        self.telemetry.audio(
            _step(global_step), tag, [snd_tensor], sample_rate_hz=int(on_host("sample_rate", sample_rate))
        )

    @_guarded
    def add_embedding(
        self,
        mat: ArrayLike,
        metadata: Sequence[Any] | None = None,
        label_img: ArrayLike | None = None,
        global_step: int | None = None,
        tag: str = "default",
        metadata_header: Sequence[str] | None = None,
    ) -> None:
        """Keep points ``[N, D]``, a label (or, with a header, a row of cells) each, and pictures ``[N, C, H, W]``."""
        columns = None
        if metadata is not None:
            rows = on_host("metadata", metadata)
            cells = list(zip(*rows, strict=True)) if metadata_header else [rows]
            columns = dict(zip(metadata_header or ("label",), cells, strict=True))
        self.telemetry.embedding(_step(global_step), tag, mat, metadata=columns, images=label_img)

    @_guarded
    def add_graph(
        self, model: nn.Module, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Keep the architecture of ``model`` as one forward pass over its inputs shows it."""
        given = () if input_to_model is None else input_to_model
        inputs = given if isinstance(given, tuple | list) else (given,)
        self.telemetry.graph(0, trace_graph(model, *inputs))

    @_guarded
    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Scalar],
        hparam_domain_discrete: Mapping[str, Sequence[Any]] | None = None,
        run_name: str | None = None,
        global_step: int | None = None,
    ) -> None:
        """Keep hyperparameters and final metrics of this run; those that are None are left out."""
        plain = {
            name: on_host(f"parameter {name!r:.80}", value).item() if isinstance(value, Tensor) else value
            for name, value in hparam_dict.items()
            if value is not None
        }
        self.telemetry.hparams(_step(global_step), plain, metric_dict)

    @_guarded
    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Keep a layout ``{category: {chart: ["Multiline" or "Margin", [tags]]}}``; the newest one is shown."""
        categories = {
            category: {title: Chart(kind.lower(), list(tags)) for title, (kind, tags) in charts.items()}
            for category, charts in layout.items()
        }
        self.telemetry.layout(0, categories)

    @_guarded
    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Keep a layout of one chart, with a line for each tag."""
        self.add_custom_scalars({category: {title: ["Multiline", tags]}})

    @_guarded
    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Keep a layout of one chart, a value and its margin: three tags."""
        self.add_custom_scalars({category: {title: ["Margin", tags]}})

    def flush(self) -> None:
        """Return at once: what a call was given is kept when it returns."""

    def close(self) -> None:
        """Close the telemetry."""
        self.telemetry.close()
