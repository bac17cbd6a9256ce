"""The client's public class: a training loop calls the methods of a ``Telemetry``.

The contract of every call after start-up:

- The call touches no disk and no socket, and waits for no device and no logger.
- The call raises nothing into the loop. An error is a fault: logged once for each kind, counted in ``health()``.
  ``strict=True``, meant for tests, raises errors.
- When a call with values in host memory has returned, its record survives a SIGKILL of this process. Values on a
  device are kept from the moment their copy to host memory completes.

Start-up fails fast: a setting that cannot work raises in the constructor.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Never, Self, TypeAlias

import numpy.typing as npt
import torch  # noqa: F401 - the examples use torch

from tensorboard_sidecar.protocol import messages
from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT, absolute_endpoint
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.limits import STEP_MAX
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.outbox.flight_ring import REASON_TAG
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, OUTBOX_BYTES, SPILL_BYTES
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.run_names import shown_run
from tensorboard_sidecar.protocol.storage.key_files import read_client_keys
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.calls import Faults, StepCost, telemetry_call
from tensorboard_sidecar.telemetry.ending import Ending, Status, status_after
from tensorboard_sidecar.telemetry.outbox.backlog import Storage
from tensorboard_sidecar.telemetry.pipeline import Pipeline, encode_message
from tensorboard_sidecar.telemetry.scalar_calls import ScalarCalls
from tensorboard_sidecar.telemetry.shipping.told_findings import OnFinding, ToldFindings
from tensorboard_sidecar.telemetry.silent import SilentPipeline, child_is_starting
from tensorboard_sidecar.telemetry.values import arrays, fit, summaries
from tensorboard_sidecar.telemetry.values.arrays import ArrayLike, Note, Pictures
from tensorboard_sidecar.telemetry.values.drafts import Draft
from tensorboard_sidecar.telemetry.values.embedding_parts import gather_points, split_points
from tensorboard_sidecar.telemetry.values.python_values import seconds, whole
from tensorboard_sidecar.telemetry.values.scalars import Scalar, check_scalar, host_scalars, split_scalars
from tensorboard_sidecar.telemetry.values.tags import in_records
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods

Arrays: TypeAlias = Sequence[npt.NDArray[Any]]
"""The tensors of a record, copied to host memory."""

DRAIN_SECONDS: Final = 5.0
UNANSWERED_DRAIN_SECONDS: Final = 1.0
_log: Final = logging.getLogger(__name__)
# Two threads may call a closed writer at once.
_RESUMES: Final = threading.RLock()


class _Settings(NamedTuple):
    """What a telemetry is opened with, and opened again.

    ``first_step`` is the step of the end where nothing was logged; ``plain``: the status is no text of the run.
    """

    make_pipeline: Callable[[], Pipeline]
    first_step: int
    file_suffix: str
    plain: bool
    drain_seconds: float | None
    process: int


class Telemetry:
    """The telemetry of one process in one attempt of a run.

    ``run`` is a path below the log directory, under which TensorBoard shows the values. A name that TensorBoard cannot
    show is changed, and a log line has both names. ``endpoint`` is the ZeroMQ address of a logger; "none" or None: no
    logger. ``record`` is a folder to write a recording into, or None. At least one of the two is needed, or
    ``log_dir``: a folder for event files, which a helper process makes from a recording in that folder; the helper is
    started when it is needed, and ends by itself. A logger on another machine also needs ``server_key`` (the logger's
    public key, or a file with that key) and ``client_key`` (the file with this trainer's secret key). A resumed run
    passes ``attempt`` (0, 1, 2 ...) and ``first_step``; each process of a distributed run passes its ``rank``.
    TensorBoard shows ``config``: a mapping, an ``argparse.Namespace`` or a dataclass, nested or not, of any values.

    A Telemetry that is not ``enabled`` keeps nothing, and its calls do nothing. With ``continues``, all steps of
    earlier attempts stand. ``file_suffix`` ends the names of the event files. With ``plain``, the event files hold the
    given values alone, and no status at the end.

    ``flight_recorder`` is a number of steps (0: off). The scalars of the last so many steps stay in a ring in shared
    memory, at most 4 MiB: those of :meth:`scalars`, and those of :meth:`flight`, which a loop calls at each step. The
    ring is shipped, under ``flight/``, when a value is not finite, when an exception ends the run, when the process is
    killed, and by :meth:`ship_flight`. The text ``flight/reason`` says why. Otherwise nothing of the ring is shipped.
    With a flight recorder, ``writer.add_scalar`` takes as long as :meth:`scalars`.

    Records wait in an outbox until the logger has acknowledged them or the recording holds them. The outbox takes
    ``outbox_bytes`` of memory (less where memory is small), in a private folder in ``outbox_dir`` (default: shared
    memory). When half of that is full, the oldest records go on to ``spill_dir``, at most ``spill_bytes`` (default: a
    private folder in ``outbox_dir`` if that is given, else in /var/tmp; "none" or 0 bytes: records stay in memory).

    The end of a ``with`` block, ``close`` and the end of the process wait at most ``drain_seconds`` for the logger
    (None: 5 seconds, 1 second for a logger that has never answered). Telemetries that are open when the process ends
    drain together, within one deadline. Steps are whole numbers from -2**53 to 2**53; the steps of one tag must grow.
    ``writer`` has the methods of torch's and tensorboardX's ``SummaryWriter``. In the examples of the methods,
    ``telemetry`` is an open Telemetry.

    The logger, and the helper of a ``log_dir``, watch the run. ``on_finding`` is called with each :class:`Finding` that
    opens or clears, on a thread of its own: a loop can stop early by its own choice. Errors of ``on_finding`` are
    faults. While the callback runs, the newest state of each finding waits, and the end waits for it at most a second.

    A spawned child process that imports the main module again gets a silent Telemetry, which keeps nothing and says so
    once: make the Telemetry under ``if __name__ == "__main__":``, or inside the function of the child.

    Raises ProtocolError for a run without a name, ValueError or TypeError for other wrong settings, OSError when
    memory or a folder is not available.

    >>> from tensorboard_sidecar import Telemetry
    >>> with Telemetry("team/first-try", endpoint=None, record="recordings", config={"lr": 1e-3}) as telemetry:
    ...     for step in range(3):
    ...         telemetry.scalars(step, {"loss/train": 1 / (step + 1)})

    Stop when an error opens, such as a loss that is not finite:

    >>> import threading
    >>> stop = threading.Event()
    >>> def look(finding):
    ...     if finding.severity == "error" and finding.state == "open":
    ...         stop.set()
    >>> with Telemetry("team/second-try", record="recordings", endpoint=None, on_finding=look) as telemetry:
    ...     for step in range(3):
    ...         telemetry.scalars(step, {"loss/train": 1 / (step + 1)})
    ...         if stop.is_set():
    ...             break
    """

    # Long: a parameter for each setting
    def __init__(
        self,
        run: str | os.PathLike[str],
        *,
        endpoint: str | None = DEFAULT_ENDPOINT,
        record: Path | str | None = None,
        log_dir: Path | str | None = None,
        strict: bool = False,
        attempt: int = 0,
        first_step: int = 0,
        rank: int = 0,
        config: object = None,
        drain_seconds: float | None = None,
        outbox_bytes: int = OUTBOX_BYTES,
        outbox_dir: Path | str | None = None,
        spill_dir: Path | str | None = None,
        spill_bytes: int = SPILL_BYTES,
        server_key: Path | str | None = None,
        client_key: Path | str | None = None,
        on_finding: OnFinding | None = None,
        enabled: bool = True,
        continues: bool = False,
        file_suffix: str = "",
        plain: bool = False,
        flight_recorder: int = 0,
    ) -> None:
        show_in = None
        if log_dir is not None:
            if record is not None:
                raise ValueError(f"the recording of a log_dir lies in it; got record={str(record)!r:.200} as well")
            show_in = Path(log_dir).absolute()
            record = show_in / RECORDING_NAME
            endpoint = None if endpoint == DEFAULT_ENDPOINT else endpoint
        if endpoint == NO_LOGGER:
            endpoint = None
        if not endpoint and not record:
            raise ValueError("nowhere to send telemetry: give an endpoint, a record folder, or both")
        run = _run(run, told=not record or Path(record).name != RECORDING_NAME)
        flight_steps = whole("flight_recorder", flight_recorder)
        if not 0 <= flight_steps <= STEP_MAX:
            raise ValueError(f"flight_recorder {flight_steps}; expected 0 (off), or a number of steps")
        folder = Path(record).absolute() if record else None  # a program may change its working folder, as Hydra does
        first_step, rank, attempt = whole("first_step", first_step), whole("rank", rank), whole("attempt", attempt)

        def make_pipeline() -> Pipeline:
            stream = Stream(run, rank, attempt)
            if child_is_starting() or not enabled:
                return SilentPipeline(stream, wanted=not enabled)
            return Pipeline(
                stream,
                endpoint=absolute_endpoint(endpoint) if isinstance(endpoint, str) else endpoint,
                record=folder,
                storage=Storage(outbox_bytes, outbox_dir, spill_dir, spill_bytes),
                keys=read_client_keys(server_key, client_key),
                show_in=show_in,
                told=_told(on_finding, self.faults),
                flight_steps=flight_steps,
            )

        drain_seconds = None if drain_seconds is None else seconds("drain_seconds", drain_seconds)
        self._settings = _Settings(make_pipeline, first_step, file_suffix, plain, drain_seconds, os.getpid())
        self.faults = Faults(strict=strict, quiet=not enabled)
        self.cost = StepCost()
        self.writer = WriterMethods(self, str(folder / run) if folder else run)
        config = {} if config is None else self.faults.parameters("config", config)
        self._open(messages.RunStart(first_step, config, continues, file_suffix))

    def _open(self, start: messages.RunStart) -> None:
        """Open a stream that begins with ``start``. Raises as the class."""
        body = encode_message(self._settings.first_step, start)
        self._summarizer = summaries.Summarizer()
        self._pipeline = self._settings.make_pipeline()
        if not self._pipeline.closed:  # silent
            self._pipeline.append(Kind.RUN_START, self._settings.first_step, body)
        self.check_open = self._pipeline.check_open
        self.scalar_calls = ScalarCalls(self._pipeline, self.faults, self.cost)
        self._ending = Ending(self.faults, self._begin_close, self._pipeline.close)

    def __repr__(self) -> str:
        return f"<Telemetry {self.run} {self._pipeline!r}>"

    def __reduce__(self) -> Never:
        raise TypeError("a Telemetry cannot be sent to another process; make a new Telemetry there")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close(status=status_after(error))

    @property
    def run(self) -> str:
        """The run's name in TensorBoard.

        >>> telemetry.run
        'team/first-try'
        """
        return self._pipeline.stream.run

    @property
    def recording_name(self) -> str:
        """The name of the folder of this stream's recording, below the run's folder.

        >>> telemetry.recording_name.startswith("stream-0000-0000-")
        True
        """
        return self._pipeline.stream.folder_name

    @property
    def is_shown(self) -> bool:
        """Whether the event files of ``log_dir`` hold all records, durably; True without a ``log_dir``.

        >>> telemetry.is_shown
        True
        """
        return self._pipeline.is_shown

    @property
    def lag_seconds(self) -> float:
        """The age of the oldest record that is not yet on the logger's disk or in the recording; 0.0 without one.

        >>> telemetry.lag_seconds < 60
        True
        """
        return self._pipeline.lag_seconds

    @telemetry_call
    def scalars(self, step: int, values: Mapping[str, Scalar]) -> None:
        """Keep numbers by tag in one record: floats, ints, or tensors and arrays with one element, on any device.

        A value on a device delays its record until the value's copy has arrived in host memory. Host values of the
        same call wait with it; send them in a separate call if they must survive a kill at once. A value that is no
        real number is a fault; the other values of the call are kept. More than 20,000 values are several records.

        >>> telemetry.scalars(100, {"loss/train": torch.tensor(0.25), "optimization/lr": 1e-3})
        """
        numbers = self._host_scalars(values)
        if numbers is not None:
            self._pipeline.append(Kind.SCALARS, step, encode_scalars(numbers))
            return
        good = self.faults.convert_each("telemetry.scalars", values, check_scalar)
        for split in map(split_scalars, in_records(good) if good or not values else ()):
            self._pipeline.keep_tensors(step, Kind.SCALARS, split.on_device, split.message)

    @telemetry_call
    def flight(self, step: int, values: Mapping[str, Scalar]) -> None:
        """Keep numbers in the flight recorder alone, for each step: nothing is shipped while all goes well.

        ``values`` are as for :meth:`scalars`, whose values the recorder keeps too. Without ``flight_recorder`` the call
        does nothing. A burst shows ``loss`` as ``flight/loss``; steps before those of an earlier burst are not shown.

        >>> for step in range(100):
        ...     telemetry.flight(step, {"loss": torch.tensor(1 / (step + 1)), "grad_norm": 0.5})
        """
        if self._pipeline.flight is None:
            return
        numbers = self._host_scalars(values)
        if numbers is not None:
            self._pipeline.keep_flight(step, encode_scalars(numbers))
            return
        good = self.faults.convert_each("telemetry.flight", values, check_scalar)
        for split in map(split_scalars, in_records(good) if good or not values else ()):
            self._pipeline.keep_flight_tensors(step, split.on_device, split.message)

    def ship_flight(self, reason: object) -> None:
        """Ship the flight recorder's values that were not shipped before, and ``reason`` as the text ``flight/reason``.

        The sender thread ships; the call does not wait. Without ``flight_recorder`` the call does nothing.

        >>> telemetry.ship_flight("the validation loss is above 10")
        """
        try:
            self.check_open()
            if self._pipeline.flight is not None:
                with self.faults.noting("telemetry.ship_flight") as note:
                    self._pipeline.flight.ship(fit.text(REASON_TAG, reason, note), self.cost.highest_step)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            self.faults.note("telemetry.ship_flight", error)

    @telemetry_call
    def summaries(self, step: int, tensors: Mapping[str, ArrayLike], *, walltime: float | None = None) -> None:
        """Keep the histogram and the moments of each tensor (any shape, any real dtype) in one record.

        The values are those at the time of the call. When two or more tags share their first component, the logger
        also draws an overview of them, ``histograms/<component>``. A value that is no dense tensor (a gradient that is
        None or sparse) is a fault; the other tensors of the call are kept. ``walltime`` is as for :meth:`keep`.

        >>> layer = torch.nn.Linear(128, 64)
        >>> telemetry.summaries(100, {f"weights/{name}": values for name, values in layer.named_parameters()})
        """
        good = self.faults.convert_each("telemetry.summaries", tensors, arrays.as_tensor)
        with self.faults.noting("telemetry.summaries") as note:
            wall_time_ns = fit.wall_time_ns(walltime, note)
            for split in self._summarizer.split(good).records() if good or not tensors else ():
                self._pipeline.keep_tensors(
                    step,
                    Kind.TENSOR_SUMMARIES,
                    split.on_device,
                    split.message,
                    size_max_bytes=split.size_max_bytes,
                    wall_time_ns=wall_time_ns,
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
        """Keep a matrix ``[rows, columns]``, which the logger draws as a heatmap.

        The colours cover ``value_range`` (None: the range of the matrix's own values). The matrix is kept as float16
        where float16 distinguishes all colours of ``value_range``, otherwise as float32. A ``value_range`` without
        finite low < high is a fault, and the matrix is kept without that range. A vector is a matrix of one row. A side
        of more than 4,096 cells is reduced: each cell is the mean of a block, as the title says.

        >>> text, image = torch.randn(2, 16, 64)
        >>> telemetry.matrix(100, "similarity/text_vs_image", text @ image.T, row_label="text", column_label="image")
        """
        tag = self.faults.shown_tag("telemetry.matrix", tag)
        with self.faults.noting("telemetry.matrix") as note:
            ends = fit.value_range(tag, value_range, note)
            fitting, blocks = fit.matrix(tag, values, note)
            title = fit.title(title, tag, blocks, note)
            row_label = fit.label("row_label", row_label, note)
            column_label = fit.label("column_label", column_label, note)
            self._pipeline.keep_tensors(
                step,
                Kind.MATRIX,
                [arrays.matrix_to_floats(fitting, ends)],
                lambda copied: messages.Matrix(tag, pack_array(copied[0]), title, row_label, column_label, ends),
            )

    @telemetry_call
    def images(
        self,
        step: int,
        tag: str,
        images: Pictures,
        captions: Sequence[str] = (),
        *,
        layout: str = "",
        walltime: float | None = None,
    ) -> None:
        """Keep pictures with 1 to 4 channels: a tensor, an array, an image of Pillow, or a list of equal pictures.

        Floats are in 0..1, uint16 in 0..65535, other integers in 0..255; bools, and integers (except uint8) of 0 and 1
        only, are black and white. Values beyond are clipped; in host memory, that is a fault. ``layout`` names the
        dimensions in any order: H and W, with N and C where they are. The default is NCHW, CHW or HW, by the number of
        dimensions. ``captions`` is empty or has one text for each picture. Pictures that do not fit one record (256
        pictures, 64 MiB) are several records, with the tags ``tag``, ``tag (2 of 3)`` and so on. ``walltime`` is as for
        :meth:`keep`.

        >>> telemetry.images(100, "samples/images", torch.rand(2, 3, 32, 32), captions=["a dog", "a cat"])
        """
        tag = self.faults.shown_tag("telemetry.images", tag)
        with self.faults.noting("telemetry.images") as note:
            wall_time_ns = fit.wall_time_ns(walltime, note)
            for record in fit.picture_records(tag, images, layout, captions, note):
                build = partial(_images, record.tag, record.captions)
                self._pipeline.keep_tensors(step, Kind.IMAGES, [record.pictures], build, wall_time_ns=wall_time_ns)

    @telemetry_call
    def text(self, step: int, tag: str, text: object, *, walltime: float | None = None) -> None:
        """Keep a text; TensorBoard shows markdown. Any other value is kept as its text.

        Of a text of more than a million characters the first part is kept, and the last line says so. ``walltime`` is
        as for :meth:`keep`.

        >>> telemetry.text(100, "notes", "The **second** half of the data begins here.")
        """
        tag = self.faults.shown_tag("telemetry.text", tag)
        with self.faults.noting("telemetry.text") as note:
            wall_time_ns = fit.wall_time_ns(walltime, note)
            self._pipeline.keep(step, messages.Text(tag, fit.text(tag, text, note)), wall_time_ns=wall_time_ns)

    @telemetry_call
    def audio(
        self, step: int, tag: str, clips: Sequence[ArrayLike], *, sample_rate_hz: int, captions: Sequence[str] = ()
    ) -> None:
        """Keep sound clips, each ``[frames]`` or ``[channels, frames]``: floats in -1..1, int16, int32, int8 or uint8.

        Floats beyond are clipped; in host memory, that is a fault. ``captions`` is empty or has one text for each clip.

        Clips that do not fit one record (64 clips, 64 MiB) are several records, tagged as pictures are. A clip that
        cannot be kept is a fault; the other clips are kept.

        >>> tone = torch.sin(torch.arange(8000) / 3)
        >>> telemetry.audio(100, "samples/tones", [tone, tone / 2], sample_rate_hz=8000, captions=["loud", "quiet"])
        """
        tag = self.faults.shown_tag("telemetry.audio", tag)
        with self.faults.noting("telemetry.audio") as note:
            rate_hz = fit.sample_rate(sample_rate_hz, note)
            kept = fit.clips(tag, clips, captions, note)
            for part in kept.slices(tag):
                build = partial(_audio, part.tag, rate_hz, kept.captions[part.items])
                self._pipeline.keep_tensors(step, Kind.AUDIO, kept.sounds[part.items], build)

    @telemetry_call
    def embedding(
        self,
        step: int,
        tag: str,
        vectors: ArrayLike,
        *,
        metadata: Mapping[str, Sequence[str]] | None = None,
        images: Pictures | None = None,
    ) -> None:
        """Keep N points of D dimensions, ``vectors [N, D]``, for the embedding projector.

        ``metadata`` maps the name of each column to its N cells. ``images [N, C, H, W]``, with values as for
        :meth:`images`, are shown as thumbnails of at most 64 pixels a side. Points that one record cannot hold travel
        in parts. Other shapes of ``vectors``, cells that are too long, missing or too many, and images that do not fit
        the points are faults; the points, and what else can be kept, are kept.

        >>> telemetry.embedding(100, "animals", torch.randn(2, 8), metadata={"name": ["cat", "dog"]})
        """
        tag = self.faults.shown_tag("telemetry.embedding", tag)
        with self.faults.noting("telemetry.embedding") as note:
            points = gather_points(vectors, metadata, images, note)
            for tensors, build in split_points(points):
                self._pipeline.keep_tensors(step, Kind.EMBEDDING, tensors, partial(build, tag))

    @telemetry_call
    def hparams(self, step: int, parameters: object, metrics: Mapping[str, Scalar]) -> None:
        """Keep a set of hyperparameters and its metrics: a row of TensorBoard's HParams tab.

        A call with other hyperparameters is another row; a call with equal ones adds its metrics to their row.
        ``parameters`` is what ``config`` may be. A value that is no bool, number or text is shown as its text. A
        parameter or a metric that cannot be shown is a fault; the others are kept.

        >>> telemetry.hparams(100, {"lr": 1e-3, "backbone": "resnet18"}, {"accuracy": 0.75})
        """
        plain = self.faults.parameters("telemetry.hparams", parameters)
        good = self.faults.convert_each("telemetry.hparams", metrics, check_scalar)
        with self.faults.noting("telemetry.hparams") as note:
            split = split_scalars(fit.first_values("metrics", good, note))
            self._pipeline.keep_tensors(
                step, Kind.HPARAMS, split.on_device, lambda copied: messages.HParams(plain, split.merge(copied))
            )

    @telemetry_call
    def graph(self, step: int, graph: messages.Graph) -> None:
        """Keep a model's architecture, as :func:`trace_graph` returns: the first 50,000 nodes of a larger graph.

        >>> from tensorboard_sidecar.telemetry.values.model_graph import trace_graph
        >>> telemetry.graph(0, trace_graph(torch.nn.Linear(3, 4), torch.zeros(1, 3)))
        """
        with self.faults.noting("telemetry.graph") as note:
            self._pipeline.keep(step, fit.graph(graph, note))

    @telemetry_call
    def layout(self, step: int, categories: Mapping[str, Mapping[str, messages.Chart | Sequence[Any]]]) -> None:
        """Keep the layout of TensorBoard's custom scalars: for each category, charts by title.

        The tags of a ``multiline`` chart are regular expressions, each matched at the start of a tag; those of a
        ``margin`` chart are exactly three tags: value, lower margin, upper margin. A chart may also be a pair of kind
        and tags. A malformed chart is a fault; the other charts are kept.

        >>> from tensorboard_sidecar.protocol.messages import Chart
        >>> telemetry.layout(0, {"Losses": {"both": Chart("multiline", ["^loss/train$", "^loss/val$"])}})
        """
        with self.faults.noting("telemetry.layout") as note:
            fitting = fit.layout(categories, note)
            if fitting is not None:
                self._pipeline.keep(step, fitting)

    @telemetry_call
    def keep(
        self,
        step: int,
        drafts: Callable[[Note], Iterable[Draft]],
        *,
        call: str = "telemetry.keep",
        walltime: float | None = None,
    ) -> None:
        """Keep messages of any kind: the drafts that ``drafts(note)`` makes, in order.

        ``note`` takes errors about values that are kept, but not as given; ``call`` names the caller in the log.
        ``walltime`` is the time of the records in seconds since 1970 (None: now). A value that is no time is a fault,
        and the records have the time now.

        >>> from tensorboard_sidecar.protocol.messages import Text
        >>> from tensorboard_sidecar.telemetry.values.drafts import finished
        >>> telemetry.keep(100, lambda note: [finished(Text("notes", "older"))], walltime=1_722_222_222.0)
        """
        try:
            with self.faults.noting(call) as note:
                wall_time_ns = fit.wall_time_ns(walltime, note)
                for kind, tensors, build in drafts(note):
                    self._pipeline.keep_tensors(step, kind, tensors, build, wall_time_ns=wall_time_ns)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            self.faults.note(call, error)

    def health(self) -> dict[str, float]:
        """Return measurements of telemetry itself by tag, for logging with :meth:`scalars`.

        ``step_cost_us_p50`` and ``_p99``: time in calls a step, in microseconds, over the last 1,024 steps.
        ``lag_seconds``, ``outbox_bytes``, ``spilled_bytes``: the backlog. ``refused``: records refused because memory
        and disk were full. ``faults``: calls or values that were not kept as given.

        >>> for tag in sorted(telemetry.health()):
        ...     print(tag)
        telemetry/faults
        telemetry/lag_seconds
        telemetry/outbox_bytes
        telemetry/refused
        telemetry/spilled_bytes
        telemetry/step_cost_us_p50
        telemetry/step_cost_us_p99
        """
        return {**self.cost.health(), **self._pipeline.health(), "telemetry/faults": float(self.faults.total)}

    def findings(self) -> tuple[Finding, ...]:
        """Return what is known to be wrong with the run: open findings first, the gravest first, then cleared ones.

        The logger, or the helper of a ``log_dir``, tells a finding some moments after the records that show it. They
        tell this process about its own stream. With a recording alone nobody watches the run, and the result is empty:
        ``tensorboard-sidecar doctor RECORDING`` says later what was wrong.

        >>> [str(finding) for finding in telemetry.findings() if finding.state == "open"]
        []
        """
        return self._pipeline.told.known

    def call_on_finding(self, on_finding: OnFinding) -> None:
        """Call ``on_finding`` too, from now on, as the ``on_finding`` of the constructor.

        >>> telemetry.call_on_finding(print)
        """
        self._pipeline.told.call(on_finding)

    def show(self, seconds: float = 30.0) -> bool:
        """Wait at most ``seconds`` until the event files of ``log_dir`` hold all records so far, durably.

        Returns whether they do. Without a ``log_dir`` the result is True at once: the logger makes the event files.

        >>> telemetry.show()
        True
        """
        return self._pipeline.show(seconds)

    def close(self, deadline_seconds: float | None = None, *, status: Status | None = None) -> None:
        """End the run and ship the backlog, waiting at most ``deadline_seconds`` (None: ``drain_seconds``).

        ``status`` is how the run ended. The default is "completed"; in a ``finally`` block that an exception entered,
        the default is "failed", or "interrupted" after Ctrl-C. Records that are not shipped by the deadline stay in
        shared memory, and a warning names the command that ships them. A second call does nothing.

        >>> telemetry.close(deadline_seconds=2.0)
        """
        self._ending.for_good = True
        self._close(deadline_seconds, status)

    def suspend(self) -> None:
        """End the run as :meth:`close`, until :meth:`resume`; ``writer.close()`` does that.

        >>> telemetry.suspend()
        """
        self._close(None, None)

    def resume(self) -> bool:
        """After :meth:`suspend`, go on with the run in a new stream; return whether the telemetry is open.

        A telemetry does not go on after :meth:`close`, after the end of the process has closed it, and in a forked
        child. A call of ``writer`` resumes. Raises OSError when memory or a folder is not available.

        >>> telemetry.suspend()
        >>> telemetry.resume()
        True
        """
        lasts = isinstance(self._pipeline, SilentPipeline) or os.getpid() != self._settings.process
        if not (lasts or self._ending.for_good):
            with _RESUMES:
                if self._pipeline.closed:
                    self._open(messages.RunStart(continues=True, file_suffix=self._settings.file_suffix))
        return not self._pipeline.closed

    def _close(self, deadline_seconds: float | None, status: Status | None) -> None:
        try:
            limit_seconds = None if deadline_seconds is None else max(0.0, float(deadline_seconds))
        except (TypeError, ValueError) as error:
            self.faults.note("telemetry.close", error)
        else:
            self._ending.close(status, limit_seconds)

    def _host_scalars(self, values: Mapping[str, Scalar]) -> dict[str, float] | None:
        """Return the values as floats, None when a value is on a device, or is no number, or its tag was not good."""
        try:
            if not self.scalar_calls.tags.issuperset(values):
                self.scalar_calls.tags.learn(values)
            return host_scalars(values)
        except Exception:  # noqa: BLE001 - the fast path failed; the slow path of the caller reports which tag is bad
            return None

    def _begin_close(self, status: Status, deadline_seconds: float | None) -> None:
        if self._pipeline.closed:  # in a forked child, or silent
            return
        given = self._settings.drain_seconds if deadline_seconds is None else deadline_seconds
        limits = (DRAIN_SECONDS, UNANSWERED_DRAIN_SECONDS) if given is None else (given, given)
        if self._pipeline.flight is not None:
            self._pipeline.flight.close(self._ending.error, limits[0])
        try:
            step = max(self._settings.first_step, self.cost.step)
            self._pipeline.keep(step, messages.RunEnd(status, self._settings.plain))
        finally:
            self.faults.log_total(self.run)
            self._summarizer.close()
            self._pipeline.stop(*limits)


def _told(on_finding: OnFinding | None, faults: Faults) -> ToldFindings:
    """Return the place for findings. Raises TypeError for an ``on_finding`` that cannot be called."""
    told = ToldFindings(partial(faults.note, "on_finding"))
    if on_finding is not None:
        if not callable(on_finding):
            raise TypeError(f"on_finding {on_finding!r:.80}; expected a function that takes a Finding")
        told.call(on_finding)
    return told


def _run(name: str | os.PathLike[str], *, told: bool) -> str:
    """Return the run for a user's name; when ``told``, log the change. Raises TypeError, ProtocolError."""
    text = os.fspath(name) if isinstance(name, os.PathLike) else name
    if not isinstance(text, str):
        raise TypeError(f"run {name!r:.80}; expected a name")
    run, changes = shown_run(text)
    if changes and told:
        _log.warning("run %.300r is shown as %.300r: %s", text, run, "; ".join(changes))
    return run


def _images(tag: str, captions: list[str], arrived: Arrays) -> messages.Images:
    return messages.Images(tag, pack_array(arrived[0]), captions)


def _audio(tag: str, sample_rate_hz: int, captions: list[str], arrived: Arrays) -> messages.Audio:
    return messages.Audio(tag, list(map(pack_array, arrived)), sample_rate_hz, captions)
