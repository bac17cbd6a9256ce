"""A look-alike of ``torch.utils.tensorboard.SummaryWriter`` over a :class:`~trainer.telemetry.Telemetry`.

Change the line that makes the writer; the loop stays as it is. The differences are deliberate: no call touches a file;
a step left out is 0; ``flush`` returns at once, there being nothing to flush on this side; ``add_figure`` is missing,
since drawing in the loop is what this project takes out of it (``Telemetry.matrix`` sends the numbers instead).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from protocol.messages import Chart
from trainer.telemetry.graph import trace_graph

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from protocol.messages import ParameterValue
    from trainer.telemetry.convert import ArrayLike, Scalar
    from trainer.telemetry.telemetry import Telemetry

_Method = TypeVar("_Method", bound=Callable[..., None])


def _guarded(method: _Method) -> _Method:
    """Keep the contract for what is done before telemetry itself is called."""

    @wraps(method)
    def call(self: SummaryWriter, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end training
            self.telemetry.faults.note(f"writer.{method.__name__}", error)

    return cast("_Method", call)


class SummaryWriter:
    """Each method keeps what torch's method of the same name would have written.

    As everywhere in telemetry, nothing raises into the loop unless the telemetry is strict.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    @_guarded
    def add_scalar(self, tag: str, scalar_value: Scalar, global_step: int | None = None) -> None:
        """Keep one number: a float, an int, or a 0-d tensor on any device."""
        self.telemetry.scalars(global_step or 0, {tag: scalar_value})

    @_guarded
    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Scalar], global_step: int | None = None) -> None:
        """Keep numbers under ``main_tag/<key>``, in this run (torch's writer makes a run of each)."""
        values = {f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}
        self.telemetry.scalars(global_step or 0, values)

    @_guarded
    def add_histogram(self, tag: str, values: ArrayLike, global_step: int | None = None) -> None:
        """Keep a histogram of a tensor of any shape."""
        self.telemetry.summaries(global_step or 0, {tag: values})

    @_guarded
    def add_image(
        self, tag: str, img_tensor: ArrayLike, global_step: int | None = None, *, dataformats: str = "CHW"
    ) -> None:
        """Keep one picture; ``dataformats`` is CHW, HWC or HW."""
        self.telemetry.images(global_step or 0, tag, img_tensor, layout=dataformats)

    @_guarded
    def add_images(
        self, tag: str, img_tensor: ArrayLike, global_step: int | None = None, *, dataformats: str = "NCHW"
    ) -> None:
        """Keep several pictures; ``dataformats`` is NCHW or NHWC."""
        self.telemetry.images(global_step or 0, tag, img_tensor, layout=dataformats)

    @_guarded
    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> None:
        """Keep markdown."""
        self.telemetry.text(global_step or 0, tag, text_string)

    @_guarded
    def add_audio(
        self, tag: str, snd_tensor: ArrayLike, global_step: int | None = None, *, sample_rate: int = 44100
    ) -> None:
        """Keep a clip, ``[frames]`` or ``[channels, frames]``, floats in -1..1."""
        self.telemetry.audio(global_step or 0, tag, [snd_tensor], sample_rate_hz=sample_rate)

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
            cells = list(zip(*metadata, strict=True)) if metadata_header else [metadata]
            columns = dict(zip(metadata_header or ("label",), cells, strict=True))
        self.telemetry.embedding(global_step or 0, tag, mat, metadata=columns, images=label_img)

    @_guarded
    def add_graph(self, model: nn.Module, input_to_model: Any = ()) -> None:
        """Keep the architecture of ``model`` as one forward pass over its inputs shows it."""
        inputs = input_to_model if isinstance(input_to_model, tuple | list) else (input_to_model,)
        self.telemetry.graph(0, trace_graph(model, *inputs))

    @_guarded
    def add_hparams(
        self,
        hparam_dict: Mapping[str, ParameterValue],
        metric_dict: Mapping[str, float],
        global_step: int | None = None,
    ) -> None:
        """Keep hyperparameters and final metrics of this run (torch's writer makes a run of them)."""
        self.telemetry.hparams(global_step or 0, hparam_dict, metric_dict)

    @_guarded
    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Keep a layout ``{category: {chart: ["Multiline" or "Margin", [tags]]}}``."""
        categories = {
            category: {title: Chart(kind.lower(), list(tags)) for title, (kind, tags) in charts.items()}
            for category, charts in layout.items()
        }
        self.telemetry.layout(0, categories)

    def flush(self) -> None:
        """Return at once: what a call was given is kept when it returns."""

    def close(self) -> None:
        """Close the telemetry."""
        self.telemetry.close()
