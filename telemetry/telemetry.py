"""The facade a training loop talks to.

The contract of every call made after start-up: it touches no disk and no socket, waits for no device and no peer, and
raises nothing into the loop (``strict=True`` raises what went wrong, for tests). When a call with host values has
returned, its record survives a kill of this process. A setting that cannot work raises at start-up, at once.
"""

import atexit
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Never, Self

import torch

from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT, absolute_endpoint
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.names import check_step
from tensorboard_sidecar.protocol.outbox.destination import NO_LOGGER
from tensorboard_sidecar.protocol.outbox.location import OUTBOX_BYTES, SPILL_BYTES
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.storage.key_files import read_client_keys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.faults import Faults
from tensorboard_sidecar.telemetry.guard import telemetry_call
from tensorboard_sidecar.telemetry.outbox.storage import Storage
from tensorboard_sidecar.telemetry.pipeline import Pipeline, encode_message
from tensorboard_sidecar.telemetry.run_status import Status, status_after
from tensorboard_sidecar.telemetry.step_cost import StepCost
from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter
from tensorboard_sidecar.telemetry.values import summaries
from tensorboard_sidecar.telemetry.values.arrays import (
    ArrayLike,
    as_tensor,
    clip_to_int16,
    matrix_to_floats,
    pictures_to_uint8,
    thumbnails_to_uint8,
)
from tensorboard_sidecar.telemetry.values.checked_tags import CheckedTags
from tensorboard_sidecar.telemetry.values.python_values import cells, plain_parameters, plain_range, seconds, whole
from tensorboard_sidecar.telemetry.values.scalars import Scalar, check_scalar, host_scalars, split_scalars


class Telemetry:
    """One process's telemetry for one attempt of ``run``.

    ``endpoint`` is a logger's ZeroMQ address; "none" or None: no logger. ``record`` is a folder to record into, or
    None. One of them is needed. ``server_key`` (the logger's public key, or its file) and ``client_key`` (the file of
    one's own secret key) are needed beyond this machine. ``attempt`` and ``first_step`` are those of a resumed run;
    ``config`` is shown with it. ``close``, or the end of a ``with`` block, waits up to ``drain_seconds`` for the
    logger. Steps are not negative, and a tag's steps grow.

    What nobody has taken yet lies in memory, ``outbox_bytes`` of it, or less where memory is small, in a private folder
    in ``outbox_dir`` (default: shared memory); from half of that on in ``spill_dir``, up to ``spill_bytes`` (default: a
    private folder in ``outbox_dir``, else in /var/tmp; "none" or 0 bytes: nothing goes to disk).

    Raises ProtocolError (a run that is no safe path), ValueError or TypeError (settings) or OSError (memory, folders)
    at start-up.
    """

    # Long: a parameter for each setting
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
        config: Mapping[str, Any] | None = None,
        drain_seconds: float = 5.0,
        outbox_bytes: int = OUTBOX_BYTES,
        outbox_dir: Path | str | None = None,
        spill_dir: Path | str | None = None,
        spill_bytes: int = SPILL_BYTES,
        server_key: Path | str | None = None,
        client_key: Path | str | None = None,
    ) -> None:
        if endpoint == NO_LOGGER:
            endpoint = None
        if not endpoint and not record:
            raise ValueError("nowhere to send telemetry: give an endpoint, a record folder, or both")
        if not isinstance(run, str):
            raise TypeError(f"run {run!r}; expected a name")
        self.drain_seconds = seconds("drain_seconds", drain_seconds)
        self._first_step = whole("first_step", first_step)
        start = encode_message(self._first_step, messages.RunStart(self._first_step, plain_parameters(config or {})))
        folder = Path(record).absolute() if record else None  # programs change their working folder (Hydra does)
        self.faults = Faults(strict=strict)
        self.writer = SummaryWriter(self, str(folder / run) if folder else run)
        self._closing = threading.Lock()  # taken once, for good
        self.cost = StepCost()
        self._summarizer = summaries.Summarizer()
        self._tags = CheckedTags()
        self._pipeline = Pipeline(
            Stream(run, whole("rank", rank), whole("attempt", attempt)),
            endpoint=absolute_endpoint(endpoint) if isinstance(endpoint, str) else endpoint,
            record=folder,
            storage=Storage.of(outbox_bytes, outbox_dir, spill_dir, spill_bytes),
            keys=read_client_keys(server_key, client_key),
        )
        self.check_open = self._pipeline.check_open
        self._pipeline.append(Kind.RUN_START, self._first_step, start)
        atexit.register(self._close_at_exit)

    def __repr__(self) -> str:
        return f"<Telemetry {self.run} {self._pipeline.outbox!r}>"

    def __reduce__(self) -> Never:
        raise TypeError("a Telemetry does not cross to another process; make one of its own there")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close(status=status_after(error))

    @property
    def run(self) -> str:
        """The run's name."""
        return self._pipeline.outbox.stream.run

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest record that is not yet on the logger's disk, or in the recording."""
        return self._pipeline.sender.lag_seconds

    @telemetry_call
    def scalars(self, step: int, values: Mapping[str, Scalar]) -> None:
        """Keep numbers by tag: floats, ints, or tensors of one number on any device. One record, no wait.

        Beside a value on a device, those of the host are kept when that has arrived: keep them in a call of their own
        where that matters. A value that is none is a fault, and costs the others nothing.
        """
        try:
            if not self._tags.issuperset(values):
                self._tags.learn(values)
            numbers = host_scalars(values)
        except Exception:  # noqa: BLE001 - which value it was, the careful way finds out
            numbers = None
        if numbers is not None:
            self._pipeline.append(Kind.SCALARS, check_step(step), encode_scalars(numbers))
            return
        split = split_scalars(self.faults.sift("telemetry.scalars", values, check_scalar))
        if split.host or not values:
            self._pipeline.keep_tensors(
                check_step(step), Kind.SCALARS, split.on_device, lambda arrays: messages.Scalars(split.merge(arrays))
            )

    @telemetry_call
    def summaries(self, step: int, tensors: Mapping[str, ArrayLike]) -> None:
        """Keep a histogram and the moments of tensors of any shape, as they are now. One record.

        Two or more tags that share their first component also get a picture, ``histograms/<component>``. What is no
        plain tensor (a gradient that is None, or sparse) is a fault, and costs the others nothing.
        """
        values = self.faults.sift("telemetry.summaries", tensors, as_tensor)
        if tensors and not values:
            return
        split = self._summarizer.split(values)
        self._pipeline.keep_tensors(
            check_step(step),
            Kind.TENSOR_SUMMARIES,
            split.on_device,
            lambda arrays: messages.TensorSummaries(split.merge(arrays)),
            size_max_bytes=split.size_max_bytes,
        )

    @telemetry_call
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
        """Keep ``[rows, columns]``, to be drawn as a heatmap with colours for ``value_range`` (None: its own).

        As float16 where that shows every colour of the range, else as float32.
        """
        ends = plain_range(value_range)
        self._pipeline.keep_tensors(
            check_step(step),
            Kind.MATRIX,
            [matrix_to_floats(values, ends)],
            lambda arrays: messages.Matrix(tag, pack_array(arrays[0]), title, row_label, column_label, ends),
        )

    @telemetry_call
    def images(self, step: int, tag: str, images: ArrayLike, captions: Sequence[str] = (), *, layout: str = "") -> None:
        """Keep pictures: floats in 0..1 or integers in 0..255, captions one each.

        ``layout`` names the dimensions: NCHW, NHWC, CHW, HWC or HW; by default the one of NCHW, CHW and HW that fits.
        """
        labels = list(captions)
        self._pipeline.keep_tensors(
            check_step(step),
            Kind.IMAGES,
            [pictures_to_uint8(images, layout)],
            lambda arrays: messages.Images(tag, pack_array(arrays[0]), labels),
        )

    @telemetry_call
    def text(self, step: int, tag: str, text: str) -> None:
        """Keep markdown."""
        self._pipeline.keep(step, messages.Text(tag, text))

    @telemetry_call
    def audio(
        self, step: int, tag: str, clips: Sequence[ArrayLike], *, sample_rate_hz: int, captions: Sequence[str] = ()
    ) -> None:
        """Keep clips ``[frames]`` or ``[channels, frames]``: floats in -1..1 or int16; captions one each."""
        labels = list(captions)
        self._pipeline.keep_tensors(
            check_step(step),
            Kind.AUDIO,
            [clip_to_int16(clip) for clip in clips],
            lambda arrays: messages.Audio(tag, list(map(pack_array, arrays)), sample_rate_hz, labels),
        )

    @telemetry_call
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
        tensors = [as_tensor(vectors).to(torch.float32)]
        if images is not None:
            tensors.append(thumbnails_to_uint8(images))
        columns = {name: cells(column) for name, column in (metadata or {}).items()}
        rows = list(map(list, zip(*columns.values(), strict=True)))
        self._pipeline.keep_tensors(
            check_step(step),
            Kind.EMBEDDING,
            tensors,
            lambda arrays: messages.Embedding(
                tag, pack_array(arrays[0]), list(columns), rows, *map(pack_array, arrays[1:])
            ),
        )

    @telemetry_call
    def hparams(self, step: int, parameters: Mapping[str, Any], metrics: Mapping[str, Scalar]) -> None:
        """Keep the hyperparameters of this run (bools, numbers, texts) and the metrics it ended with."""
        plain = plain_parameters(parameters)
        split = split_scalars(self.faults.sift("telemetry.hparams", metrics, check_scalar))
        self._pipeline.keep_tensors(
            check_step(step), Kind.HPARAMS, split.on_device, lambda arrays: messages.HParams(plain, split.merge(arrays))
        )

    @telemetry_call
    def graph(self, step: int, graph: messages.Graph) -> None:
        """Keep the model's architecture, see ``telemetry.values.model_graph.trace_graph``."""
        self._pipeline.keep(step, graph)

    @telemetry_call
    def layout(self, step: int, categories: Mapping[str, Mapping[str, messages.Chart]]) -> None:
        """Keep the layout of TensorBoard's custom scalars: charts by title by category."""
        self._pipeline.keep(step, messages.Layout({name: dict(charts) for name, charts in categories.items()}))

    def health(self) -> dict[str, float]:
        """Return the telemetry's own state by tag: what a step costs, its lag, what it holds, what it did not keep."""
        return {**self.cost.health(), **self._pipeline.health(), "telemetry/faults": float(self.faults.total)}

    def close(self, deadline_seconds: float | None = None, *, status: Status = "completed") -> None:
        """End the run and ship what is left, for at most ``deadline_seconds`` (None: ``drain_seconds``).

        What could not be shipped stays in shared memory, and a line says how to finish. Calling it again does nothing.
        """
        try:
            deadline = self.drain_seconds if deadline_seconds is None else max(0.0, float(deadline_seconds))
            if not self._pipeline.closed and self._closing.acquire(blocking=False):
                self._close(deadline, status)
        except Exception as error:  # noqa: BLE001 - the loop may go on behind it
            self.faults.note("telemetry.close", error)

    def _close(self, deadline_seconds: float, status: Status) -> None:
        atexit.unregister(self._close_at_exit)
        try:
            self._pipeline.keep(max(self._first_step, self.cost.step), messages.RunEnd(status))
        finally:
            self.faults.say_total(self.run)
            self._summarizer.close()
            self._pipeline.close(deadline_seconds)

    def _close_at_exit(self) -> None:  # where Python tells of an exception that ends it, and of no exit code
        self.close(status=status_after(getattr(sys, "last_value", None)))
