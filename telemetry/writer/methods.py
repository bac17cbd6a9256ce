"""The methods of a writer: those of ``torch.utils.tensorboard.SummaryWriter`` on top of a ``Telemetry``.

A script replaces the line that makes its writer; its other lines stay. The methods have torch's parameters: the same
names, order and defaults. The differences from torch's writer are deliberate:

- No method writes a file. ``flush`` returns at once, because there is nothing to flush in this process. After
  ``close`` the writer keeps no more values.
- ``global_step=None`` means step 0; in ``add_hparams``, the highest step so far. A negative step, or a step that is a
  tensor on a device, is a fault.
  tensor on a device, is a fault.
- ``walltime``, ``bins`` and ``max_bins`` are ignored. A record has the time of its call; a histogram has the buckets
  of ``telemetry.values.summaries``.
- ``add_scalars`` writes into this run. Torch's writer makes an additional run for each curve.
- ``add_hparams`` makes a row of TensorBoard's HParams tab for each set of hyperparameters, ``<run>/hparams-<digits>``.
  Calls with equal hyperparameters share a row. The metrics are curves of this run as well.
- Methods of torch's writer without a kind of record here (``INSTEAD`` lists them) keep nothing. A call of such a
  method is a fault: logged at the first call, counted at each call, never raised unless the telemetry is strict.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar, cast

from torch import nn

from tensorboard_sidecar.protocol.messages import Chart, Graph
from tensorboard_sidecar.telemetry.calls import Faults, StepCost
from tensorboard_sidecar.telemetry.values.arrays import ArrayLike, Pictures
from tensorboard_sidecar.telemetry.values.embedding_parts import by_column
from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
from tensorboard_sidecar.telemetry.values.python_values import on_host
from tensorboard_sidecar.telemetry.values.scalars import Scalar
from tensorboard_sidecar.telemetry.writer.plain_scalars import keeps_plain_scalars

_Method = TypeVar("_Method", bound=Callable[..., None])

INSTEAD: Final = {
    "add_figure": "drawing would make the loop wait; send numbers with telemetry.matrix, or a picture with add_image",
    "add_histogram_raw": "send the values themselves with add_histogram, which makes the buckets",
    "add_image_with_boxes": "draw the boxes into the picture and send the picture with add_image",
    "add_mesh": "send points with add_embedding",
    "add_onnx_graph": "send the model with add_graph",
    "add_pr_curve": "send precision and recall with add_scalars",
    "add_pr_curve_raw": "send precision and recall with add_scalars",
    "add_tensor": "send its histogram with add_histogram, or a matrix with telemetry.matrix",
    "add_video": "send some of its pictures with add_images",
}
"""Methods of torch's writer that have no kind of record here, each with advice on a replacement."""


class NotKept(NotImplementedError):
    """A call of a method that keeps nothing; the message names a replacement."""


class _TelemetryCalls(Protocol):
    """The calls of ``Telemetry`` that a writer makes, or that a user makes as ``writer.telemetry.<call>``.

    A protocol, because ``telemetry.telemetry`` imports this module to make the writer.
    """

    faults: Faults
    cost: StepCost

    def scalars(self, step: int, values: Mapping[str, Scalar]) -> None: ...

    def summaries(self, step: int, tensors: Mapping[str, ArrayLike]) -> None: ...

    def matrix(
        self,
        step: int,
        tag: str,
        values: ArrayLike,
        *,
        title: str = "",
        row_label: str = "",
        column_label: str = "",
        value_range: tuple[float, float] | None = None,
    ) -> None: ...

    def images(
        self, step: int, tag: str, images: Pictures, captions: Sequence[str] = (), *, layout: str = ""
    ) -> None: ...

    def text(self, step: int, tag: str, text: object) -> None: ...

    def audio(
        self, step: int, tag: str, clips: Sequence[ArrayLike], *, sample_rate_hz: int, captions: Sequence[str] = ()
    ) -> None: ...

    def embedding(
        self,
        step: int,
        tag: str,
        vectors: ArrayLike,
        *,
        metadata: Mapping[str, Sequence[str]] | None = None,
        images: Pictures | None = None,
    ) -> None: ...

    def hparams(self, step: int, parameters: object, metrics: Mapping[str, Scalar]) -> None: ...

    def graph(self, step: int, graph: Graph) -> None: ...

    def layout(self, step: int, categories: Mapping[str, Mapping[str, Chart | Sequence[Any]]]) -> None: ...

    def health(self) -> dict[str, float]: ...

    def close(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None: ...


def _guarded(method: _Method) -> _Method:
    """Note as a fault what a method raises before it calls telemetry; telemetry's own calls raise nothing."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            args[0].telemetry.faults.note(f"writer.{method.__name__}", error)

    return cast("_Method", call)


def _step(global_step: Any) -> int:
    """Return a step as torch's writer reads it: None is 0, a float loses its fraction."""
    if type(global_step) is int:
        return global_step
    return 0 if global_step is None else int(on_host("global_step", global_step))


class WriterMethods:
    """Torch's ``SummaryWriter``, method by method, keeping records through a ``Telemetry``: ``telemetry.writer``.

    ``log_dir`` is for programs that read that attribute. As with every call of telemetry, an error is a fault (logged
    once, counted) and raises only when the telemetry is strict. In the examples of the methods, ``writer`` belongs to
    an open Telemetry.

    >>> from tensorboard_sidecar import Telemetry
    >>> with Telemetry("team/first-try", endpoint=None, record="recordings").writer as writer:
    ...     for step in range(3):
    ...         writer.add_scalar("loss/train", 1 / (step + 1), step)
    """

    def __init__(self, telemetry: _TelemetryCalls, log_dir: str) -> None:
        self.telemetry = telemetry
        self.log_dir = log_dir

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, exc_val: BaseException | None, exc_tb: object) -> None:
        self.telemetry.__exit__(exc_type, exc_val, exc_tb)

    if not TYPE_CHECKING:  # a type checker reports an unknown method before the program runs

        def __getattr__(self, name: str) -> Callable[..., None]:
            """Return, for an unknown ``add_`` method, a function that notes a fault: the call must not end training."""
            if not name.startswith("add_"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

            def not_kept(*_args: Any, **_keywords: Any) -> None:
                error = NotKept(f"not kept: {INSTEAD.get(name, 'there is no such method')}")
                self.telemetry.faults.note(f"writer.{name}", error)

            return not_kept

    def get_logdir(self) -> str:
        """Return the folder of this run's recording; without a recording, the run's name.

        The logger makes a folder of that name in its log directory.

        >>> writer.get_logdir().endswith("team/first-try")
        True
        """
        return self.log_dir

    @keeps_plain_scalars
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
        """Keep one number: a float, an int, or a tensor with one element, on any device.

        ``walltime``, ``new_style`` and ``double_precision`` are ignored.

        >>> writer.add_scalar("loss/train", 0.25, 100)
        """
        self.telemetry.scalars(_step(global_step), {tag: scalar_value})

    @_guarded
    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Scalar],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep several numbers in one record, with the tags ``main_tag/<key>``.

        >>> writer.add_scalars("loss", {"train": 0.25, "val": 0.5}, 100)
        """
        main = self.telemetry.faults.shown_tag("writer.add_scalars", main_tag)
        values = {f"{main}/{tag}": value for tag, value in tag_scalar_dict.items()}
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
        """Keep a histogram of a tensor or array of any shape and real dtype. ``bins`` and ``max_bins`` are ignored.

        >>> import torch
        >>> writer.add_histogram("weights/encoder", torch.randn(256, 128), 100)
        """
        self.telemetry.summaries(_step(global_step), {tag: values})

    @_guarded
    def add_image(
        self,
        tag: str,
        img_tensor: Pictures,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Keep one picture: floats in 0..1 or integers in 0..255, dimensions as ``dataformats`` says, in any order.

        >>> import torch
        >>> writer.add_image("samples/first", torch.rand(3, 32, 32), 100)
        """
        self.telemetry.images(_step(global_step), tag, img_tensor, layout=dataformats.upper())

    @_guarded
    def add_images(
        self,
        tag: str,
        img_tensor: Pictures,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Keep several pictures, as :meth:`add_image`; ``dataformats`` has the letters NCHW in any order.

        >>> import torch
        >>> writer.add_images("samples/all", torch.rand(4, 32, 32, 3), 100, dataformats="NHWC")
        """
        self.telemetry.images(_step(global_step), tag, img_tensor, layout=dataformats.upper())

    @_guarded
    def add_text(
        self, tag: str, text_string: str, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Keep a text; TensorBoard shows markdown.

        >>> writer.add_text("notes", "The **second** half of the data begins here.", 100)
        """
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
        """Keep a clip, ``[frames]`` or ``[channels, frames]``: floats in -1..1, or integers. ``sample_rate`` is in Hz.

        >>> import torch
        >>> writer.add_audio("samples/tone", torch.sin(torch.arange(8000) / 3), 100, sample_rate=8000)
        """
        self.telemetry.audio(
            _step(global_step), tag, [snd_tensor], sample_rate_hz=int(on_host("sample_rate", sample_rate))
        )

    @_guarded
    def add_embedding(
        self,
        mat: ArrayLike,
        metadata: Sequence[Any] | None = None,
        label_img: Pictures | None = None,
        global_step: int | None = None,
        tag: str = "default",
        metadata_header: Sequence[str] | None = None,
    ) -> None:
        """Keep N points of D dimensions, ``mat [N, D]``, for the embedding projector.

        ``metadata`` has N labels or, with ``metadata_header``, N rows with a cell for each name of the header.
        ``label_img`` has N pictures ``[N, C, H, W]``; they are shown as thumbnails of at most 64 pixels a side.

        >>> import torch
        >>> writer.add_embedding(torch.randn(2, 8), metadata=["cat", "dog"], global_step=100, tag="animals")
        """
        columns: Mapping[str, Any] | None = None if metadata is None else {"label": metadata}
        if metadata is not None and metadata_header:
            columns, change = by_column(on_host("metadata", metadata), metadata_header)
            if change is not None:
                self.telemetry.faults.note("SummaryWriter.add_embedding", change)
        self.telemetry.embedding(_step(global_step), tag, mat, metadata=columns, images=label_img)

    @_guarded
    def add_graph(
        self, model: nn.Module, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Run ``model`` once on ``input_to_model`` (a tensor, or a tuple of arguments) and keep its architecture.

        The forward pass runs in this thread, in eval mode, without gradients; see :func:`trace_graph`. ``verbose`` and
        ``use_strict_trace`` are ignored.

        >>> import torch
        >>> writer.add_graph(torch.nn.Linear(3, 4), torch.zeros(1, 3))
        """
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
        """Keep a set of hyperparameters and its metrics. What is no bool, number or text is shown as text, also None.

        TensorBoard shows a row for each set: several trials of one run are as many rows. Metrics may come later, with
        the same hyperparameters again. ``hparam_domain_discrete`` and ``run_name`` are ignored.

        >>> writer.add_hparams({"lr": 1e-3, "depth": 12}, {"accuracy": 0.75}, global_step=100)
        """
        # At step 0, a metric that is also a curve would hide the curve from TensorBoard's default loader.
        step = max(0, self.telemetry.cost.highest_step) if global_step is None else _step(global_step)
        self.telemetry.hparams(step, hparam_dict, metric_dict)

    @_guarded
    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Keep a layout ``{category: {chart: ["Multiline" or "Margin", [tags]]}}``; TensorBoard shows the newest.

        >>> writer.add_custom_scalars({"Losses": {"both": ["Multiline", ["loss/train", "loss/val"]]}})
        """
        self.telemetry.layout(0, layout)

    @_guarded
    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Keep a layout of one chart with a line for each tag.

        >>> writer.add_custom_scalars_multilinechart(["loss/train", "loss/val"], title="Losses")
        """
        self.add_custom_scalars({category: {title: ["Multiline", tags]}})

    @_guarded
    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Keep a layout of one chart that shows a value between two margins; three tags: value, lower, upper.

        >>> writer.add_custom_scalars_marginchart(["loss/mean", "loss/low", "loss/high"], title="Loss")
        """
        self.add_custom_scalars({category: {title: ["Margin", tags]}})

    def flush(self) -> None:
        """Return at once: each call has kept its values when it returns.

        >>> writer.flush()
        """

    def close(self) -> None:
        """Close the telemetry; see ``Telemetry.close``.

        >>> writer.close()
        """
        self.telemetry.close()
