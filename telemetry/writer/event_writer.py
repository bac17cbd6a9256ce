"""The writer below the writer: torch's ``FileWriter``, for programs that make summaries by themselves.

Lightning, Stable-Baselines3 and others make protobuf messages and give them to ``writer._get_file_writer()`` or
``writer.file_writer``. The bytes of these messages are kept as they are; the logger checks and bounds them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from tensorboard_sidecar.protocol.messages import Event
from tensorboard_sidecar.telemetry.values.drafts import finished
from tensorboard_sidecar.telemetry.values.event_bytes import GRAPH, SUMMARY, serialised, shows, wrap
from tensorboard_sidecar.telemetry.writer.base import TelemetryCalls, WriterBase, guarded


class EventWriter:
    """Keeps summaries, graphs and events of other programs through ``writer``: protobuf messages or their bytes.

    An error is a fault, as in the writer.

    >>> from tensorboard.compat.proto.summary_pb2 import Summary
    >>> summary = Summary(value=[Summary.Value(tag="loss", simple_value=0.25)])
    >>> writer.file_writer.add_summary(summary, global_step=100)
    """

    def __init__(self, writer: "EventMethods") -> None:
        self._writer = writer

    @property
    def telemetry(self) -> TelemetryCalls:
        """The telemetry that keeps the bytes."""
        return self._writer.telemetry

    @property
    def event_writer(self) -> Self:
        """This object, by the name of torch's lowest writer."""
        return self

    def get_logdir(self) -> str:
        """Return the folder of the writer."""
        return self._writer.get_logdir()

    @guarded
    def add_event(self, event: Any, step: Any = None, walltime: float | None = None) -> None:
        """Keep a ``tensorflow.Event`` with a summary or a graph; the version of a file needs no record.

        Without ``step``, the step is the event's own.
        """
        data = serialised(event)
        if shows(data):
            self._keep(data, getattr(event, "step", None) or None if step is None else step, walltime)

    @guarded
    def add_summary(self, summary: Any, global_step: Any = None, walltime: float | None = None) -> None:
        """Keep a ``tensorflow.Summary``."""
        self._keep(wrap(SUMMARY, serialised(summary)), global_step, walltime)

    @guarded
    def add_graph(self, graph_profile: Any, walltime: float | None = None) -> None:
        """Keep a ``GraphDef``, or the first of a pair of a ``GraphDef`` and statistics of steps."""
        graph = graph_profile[0] if isinstance(graph_profile, tuple | list) else graph_profile
        self._keep(wrap(GRAPH, serialised(graph)), None, walltime)

    @guarded
    def add_onnx_graph(self, graph: Any, walltime: float | None = None) -> None:
        """Keep a ``GraphDef``."""
        self._keep(wrap(GRAPH, serialised(graph)), None, walltime)

    @guarded
    def add_openvino_graph(self, graph: Any, walltime: float | None = None) -> None:
        """Keep a ``GraphDef``."""
        self._keep(wrap(GRAPH, serialised(graph)), None, walltime)

    @contextmanager
    def use_metadata(self, *, global_step: Any = None, walltime: float | None = None) -> Iterator[Self]:
        """Give the calls inside of the block a step and a wall time, as the writer's method of this name."""
        with self._writer.use_metadata(global_step=global_step, walltime=walltime):
            yield self

    def flush(self) -> None:
        """Return at once: each call has kept its bytes when it returns."""

    def close(self) -> None:
        """Return at once: the writer closes the telemetry."""

    def reopen(self) -> None:
        """Return at once: there is no file to open."""

    def _keep(self, event: bytes, step: Any, walltime: float | None) -> None:
        self._writer.keep_event(event, step, walltime)


class EventMethods(WriterBase):
    """``file_writer``, ``all_writers`` and ``_get_file_writer``."""

    @property
    def file_writer(self) -> Any:
        """The writer below this writer, an :class:`EventWriter`; None after ``close``, as with both peers.

        >>> writer.file_writer.get_logdir() == writer.get_logdir()
        True
        """
        return None if self._closed else EventWriter(self)

    @property
    def all_writers(self) -> Any:
        """The writer below this writer, by its folder; None after ``close``.

        >>> list(writer.all_writers) == [writer.get_logdir()]
        True
        """
        return None if self._closed else {self.get_logdir(): EventWriter(self)}

    def _get_file_writer(self) -> EventWriter:
        """Return the writer below this writer: other programs call this method of torch's writer."""
        return EventWriter(self)

    @guarded
    def keep_event(self, event: bytes, step: Any, walltime: float | None) -> None:
        r"""Keep the bytes of a ``tensorflow.Event``, with the given step and time.

        >>> writer.keep_event(b"*\x00", 100, None)
        """
        self._keep("file_writer", step, walltime, lambda _: [finished(Event(event))])
