"""The facade a training loop talks to.

The contract of every call made after start-up: it touches no disk and no socket, waits for no device and no peer, and
raises nothing into the loop (``strict=True`` raises what went wrong, for tests). When a call with host values has
returned, its record survives a kill of this process. A setting that cannot work raises at start-up, at once.
"""

import atexit
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar, cast

import numpy.typing as npt
import torch

from protocol.array import Array, pack_array
from protocol.codec import encode_scalars
from protocol.messages import (
    Audio,
    Chart,
    Embedding,
    Graph,
    HParams,
    Images,
    Layout,
    Matrix,
    Message,
    ParameterValue,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummaries,
    Text,
)
from protocol.names import check_step, check_tag
from protocol.record import Kind
from protocol.stream import Stream
from trainer.telemetry import convert, summaries
from trainer.telemetry.channel import Channel
from trainer.telemetry.convert import ArrayLike, Scalar
from trainer.telemetry.cost import StepCost
from trainer.telemetry.location import OUTBOX_BYTES
from trainer.telemetry.summary_writer import SummaryWriter

DEFAULT_ENDPOINT: Final = "tcp://127.0.0.1:5555"
_TAGS_REMEMBERED_MAX: Final = 100_000
_logger = logging.getLogger(__name__)
_Method = TypeVar("_Method", bound=Callable[..., None])


def _call(method: _Method) -> _Method:
    """Make a method keep the contract: measured, and never raising unless strict."""

    @wraps(method)
    def call(self: "Telemetry", step: int, *args: Any, **kwargs: Any) -> None:
        started = perf_counter_ns()
        try:
            method(self, step, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever it was, it must not end training
            self.fault(method.__name__, error)
        self._cost.add(step, perf_counter_ns() - started)

    return cast("_Method", call)


class Telemetry:
    """One process's telemetry for one attempt of ``run``.

    ``endpoint`` is a logger's ZeroMQ address, or None; ``record`` a folder to record into, or None; one of them is
    needed. ``attempt`` and ``first_step`` are those of a resumed run; ``config`` is shown with it. ``close``, or the
    end of a ``with`` block, waits up to ``drain_seconds`` for the logger. Steps are not negative, and a tag's steps
    grow.

    Raises ProtocolError (a run that is no safe path), ValueError (settings) or OSError (memory, folders) at start-up.
    """

    def __init__(
        self,
        run: str,
        *,
        endpoint: str | None = DEFAULT_ENDPOINT,
        record: Path | str | None = None,
        strict: bool = False,
        attempt: int = 0,
        first_step: int = 0,
        rank: int = 0,
        config: Mapping[str, ParameterValue] | None = None,
        drain_seconds: float = 5.0,
        outbox_bytes: int = OUTBOX_BYTES,
    ) -> None:
        if endpoint is None and record is None:
            raise ValueError("nowhere to send telemetry: give an endpoint, a record folder, or both")
        self.strict, self.drain_seconds = strict, drain_seconds
        self.faults = 0
        self._said: set[tuple[str, type[Exception]]] = set()
        self._tags: set[str] = set()
        self._cost = StepCost()
        self._channel = Channel(
            Stream(run, rank, attempt),
            endpoint=endpoint,
            record=Path(record) if record else None,
            outbox_bytes=outbox_bytes,
        )
        self._channel.keep(check_step(first_step), RunStart(first_step, dict(config or {})))
        self.writer = SummaryWriter(self)
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"<Telemetry {self.run} {self._channel.outbox!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.close(status="failed" if isinstance(error, Exception) else "interrupted")

    @property
    def run(self) -> str:
        """The run's name."""
        return self._channel.outbox.stream.run

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest record that is not yet on the logger's disk, or in the recording."""
        return self._channel.sender.lag_seconds

    @_call
    def scalars(self, step: int, values: Mapping[str, Scalar]) -> None:
        """Keep numbers by tag: floats, ints, or 0-d tensors on any device. One record; no device is waited for."""
        if not self._tags.issuperset(values):
            self._learn_tags(values)
        numbers = convert.host_scalars(values)
        if numbers is not None:
            self._channel.append(Kind.SCALARS, check_step(step), encode_scalars(numbers))
            return
        tags = tuple(values)
        self._channel.keep_tensors(
            check_step(step),
            Kind.SCALARS,
            [convert.stack_scalars(values)],
            lambda arrays: Scalars(dict(zip(tags, arrays[0].tolist(), strict=True))),
        )

    @_call
    def summaries(self, step: int, tensors: Mapping[str, ArrayLike]) -> None:
        """Keep a histogram and the moments of tensors of any shape, as they are now. One record.

        Two or more tags that share their first component also get a picture, ``histograms/<component>``.
        """
        values = {tag: convert.as_tensor(tensor) for tag, tensor in tensors.items()}
        if all(tensor.is_cpu for tensor in values.values()):
            self._channel.keep(check_step(step), TensorSummaries(summaries.summarize_all(values)))
            return
        tags = tuple(values)
        self._channel.keep_tensors(
            check_step(step),
            Kind.TENSOR_SUMMARIES,
            [torch.stack([summaries.device_summary(tensor) for tensor in values.values()])],
            lambda arrays: TensorSummaries(dict(zip(tags, map(summaries.pack_device_summary, arrays[0]), strict=True))),
            size_max_bytes=sum(summaries.SUMMARY_SIZE_MAX_BYTES + 4 * len(tag) for tag in tags),
        )

    @_call
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
    ) -> None:
        """Keep ``[rows, columns]`` as float16, to be drawn as a heatmap (float32 where float16 would overflow)."""
        matrix = convert.as_tensor(values)
        half = matrix.dtype != torch.float64 and value_range is not None and max(map(abs, value_range)) <= 1024
        self._channel.keep_tensors(
            check_step(step),
            Kind.MATRIX,
            [matrix.to(torch.float16 if half else torch.float32)],
            lambda arrays: Matrix(tag, pack_array(arrays[0]), title, row_label, column_label, value_range),
        )

    @_call
    def images(self, step: int, tag: str, images: ArrayLike, captions: Sequence[str] = (), *, layout: str = "") -> None:
        """Keep pictures: floats in 0..1 or integers in 0..255, captions one each.

        ``layout`` names the dimensions: NCHW, NHWC, CHW, HWC or HW; by default the one of NCHW, CHW and HW that fits.
        """
        self._channel.keep_tensors(
            check_step(step),
            Kind.IMAGES,
            [convert.pictures_to_uint8(images, layout)],
            lambda arrays: Images(tag, pack_array(arrays[0]), list(captions)),
        )

    @_call
    def text(self, step: int, tag: str, text: str) -> None:
        """Keep markdown."""
        self._channel.keep(check_step(step), Text(tag, text))

    @_call
    def audio(
        self, step: int, tag: str, clips: Sequence[ArrayLike], *, sample_rate_hz: int, captions: Sequence[str] = ()
    ) -> None:
        """Keep clips ``[frames]`` or ``[channels, frames]``: floats in -1..1 or int16; captions one each."""
        self._channel.keep_tensors(
            check_step(step),
            Kind.AUDIO,
            [convert.clip_to_int16(clip) for clip in clips],
            lambda arrays: Audio(tag, list(map(pack_array, arrays)), sample_rate_hz, list(captions)),
        )

    @_call
    def embedding(
        self,
        step: int,
        tag: str,
        vectors: ArrayLike,
        *,
        metadata: Mapping[str, Sequence[str]] | None = None,
        images: ArrayLike | None = None,
    ) -> None:
        """Keep points ``[N, D]`` for the projector, with columns of N cells and pictures ``[N, C, H, W]``."""
        tensors = [convert.as_tensor(vectors).to(torch.float32)]
        if images is not None:
            tensors.append(convert.thumbnails_to_uint8(images))
        columns = dict(metadata or {})
        rows = [[str(cell) for cell in row] for row in zip(*columns.values(), strict=True)]

        def build(arrays: Sequence[npt.NDArray[Any]]) -> Message:
            packed: list[Array] = list(map(pack_array, arrays))
            return Embedding(tag, packed[0], list(columns), rows, packed[1] if len(packed) > 1 else None)

        self._channel.keep_tensors(check_step(step), Kind.EMBEDDING, tensors, build)

    @_call
    def hparams(self, step: int, parameters: Mapping[str, ParameterValue], metrics: Mapping[str, float]) -> None:
        """Keep the hyperparameters of this run and the metrics it ended with."""
        self._channel.keep(check_step(step), HParams(dict(parameters), {k: float(v) for k, v in metrics.items()}))

    @_call
    def graph(self, step: int, graph: Graph) -> None:
        """Keep the model's architecture, see :func:`trainer.telemetry.graph.trace_graph`."""
        self._channel.keep(check_step(step), graph)

    @_call
    def layout(self, step: int, categories: Mapping[str, Mapping[str, Chart]]) -> None:
        """Keep the layout of TensorBoard's custom scalars: charts by title by category."""
        self._channel.keep(check_step(step), Layout({name: dict(charts) for name, charts in categories.items()}))

    def health(self) -> dict[str, float]:
        """Return the telemetry's own state by tag: what a step costs, its lag, what it holds and what it refused."""
        outbox = self._channel.outbox
        return {
            "telemetry/step_cost_us_p50": self._cost.percentile_us(50),
            "telemetry/step_cost_us_p99": self._cost.percentile_us(99),
            "telemetry/lag_seconds": self.lag_seconds,
            "telemetry/outbox_bytes": float(outbox.used_bytes),
            "telemetry/refused": float(outbox.refusals.total),
        }

    def close(
        self,
        deadline_seconds: float | None = None,
        *,
        status: Literal["completed", "failed", "interrupted"] = "completed",
    ) -> None:
        """End the run and ship what is left, for at most ``deadline_seconds`` (None: ``drain_seconds``).

        What could not be shipped stays in shared memory, and a line says how to finish. Calling it again does nothing.
        """
        self._end(status)
        if not self._channel.close(self.drain_seconds if deadline_seconds is None else deadline_seconds):
            _logger.warning(
                "telemetry of run %s is not all shipped; it waits in shared memory. Start a logger, then: "
                "python -m trainer.telemetry drain %s --endpoint ADDRESS",
                self.run,
                self._channel.outbox.folder,
            )
        atexit.unregister(self.close)

    def _end(self, status: Literal["completed", "failed", "interrupted"]) -> None:
        if not self._channel.closed:
            self._channel.keep(max(0, self._cost.step), RunEnd(status))

    def _learn_tags(self, tags: Iterable[str]) -> None:
        """Check tags that are new; those seen before are not checked every step."""
        if len(self._tags) > _TAGS_REMEMBERED_MAX:
            self._tags.clear()
        self._tags.update(map(check_tag, tags))

    def fault(self, call: str, error: Exception) -> None:
        """Count a fault and say it, once for each call and kind of error; raise it when strict."""
        self.faults += 1
        if self.strict:
            raise error
        if (call, type(error)) not in self._said:
            self._said.add((call, type(error)))
            _logger.warning("telemetry.%s: %s: %s (said once; training goes on)", call, type(error).__name__, error)
