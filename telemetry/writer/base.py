"""What all methods of a writer need: its telemetry, steps and times as the peers read them, and faults for errors."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from types import SimpleNamespace
from typing import Any, Protocol, Self, TypeAlias, TypeVar, cast

from tensorboard_sidecar.protocol.messages import Chart, Graph
from tensorboard_sidecar.telemetry.calls import Faults, StepCost
from tensorboard_sidecar.telemetry.values.arrays import ArrayLike, Note, Pictures
from tensorboard_sidecar.telemetry.values.drafts import Draft
from tensorboard_sidecar.telemetry.values.python_values import on_host
from tensorboard_sidecar.telemetry.values.scalars import Scalar

_Method = TypeVar("_Method", bound=Callable[..., None])


class _TelemetryCalls(Protocol):
    """The calls of ``Telemetry`` that a writer makes, or that a user makes as ``writer.telemetry.<call>``.

    A protocol, because ``telemetry.telemetry`` imports this room to make the writer.
    """

    faults: Faults
    cost: StepCost

    def scalars(self, step: int, values: Mapping[str, Scalar]) -> None: ...

    def summaries(self, step: int, tensors: Mapping[str, ArrayLike], *, walltime: float | None = None) -> None: ...

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
        self,
        step: int,
        tag: str,
        images: Pictures,
        captions: Sequence[str] = (),
        *,
        layout: str = "",
        walltime: float | None = None,
    ) -> None: ...

    def text(self, step: int, tag: str, text: object, *, walltime: float | None = None) -> None: ...

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

    def keep(
        self,
        step: int,
        drafts: Callable[[Note], Iterable[Draft]],
        *,
        call: str = "",
        walltime: float | None = None,
    ) -> None: ...

    def health(self) -> dict[str, float]: ...

    def close(self) -> None: ...

    def suspend(self) -> None: ...

    def resume(self) -> bool: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None: ...


TelemetryCalls: TypeAlias = _TelemetryCalls
"""What a writer needs of a ``Telemetry``."""


class OpensAgain:
    """Takes the place of the telemetry of a closed writer: the first use opens the writer again by ``open_again``.

    ``faults`` are those of the telemetry before: a writer that cannot be opened again is a fault.
    """

    def __init__(self, open_again: Callable[[], TelemetryCalls], faults: Faults) -> None:
        self._open_again, self.faults = open_again, faults
        self.scalar_calls = SimpleNamespace(keep=lambda *_: False)  # the short path has no guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._open_again(), name)


def guarded(method: _Method) -> _Method:
    """Note as a fault what a method raises before it calls telemetry; telemetry's own calls raise nothing."""

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - no error of any type may end training
            args[0].telemetry.faults.note(f"writer.{method.__name__}", error)

    return cast("_Method", call)


def in_either_order(place: int, *names: str) -> Callable[[_Method], _Method]:
    """Return a decorator for a method whose arguments from ``place`` on are the parameters ``names`` in tensorboardX.

    A text at ``place`` tells that order; torch's parameter there is no text.
    """

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> None:
            theirs = args[place:]
            if theirs and isinstance(theirs[0], str) and len(theirs) <= len(names):
                method(*args[:place], **dict(zip(names, theirs, strict=False)), **kwargs)
            else:
                method(*args, **kwargs)

        return cast("_Method", call)

    return decorate


def read_step(global_step: Any, default: int = 0) -> int:
    """Return a step as the peers read it: None is the default, a float loses its fraction."""
    if type(global_step) is int:
        return global_step
    return default if global_step is None else int(on_host("global_step", global_step))


class WriterBase:
    """A writer without methods that keep records: its telemetry, its folder, and the defaults of ``use_metadata``."""

    def __init__(self, telemetry: TelemetryCalls, log_dir: str) -> None:
        self.telemetry = telemetry
        self.log_dir = log_dir
        self._default_step = 0
        self._default_walltime: float | None = None
        self._closed = False

    @property
    def logdir(self) -> str:
        """The folder of the writer, by tensorboardX's name.

        >>> writer.logdir == writer.log_dir
        True
        """
        return self.log_dir

    def get_logdir(self) -> str:
        """Return the folder of this run's recording; without a recording, the run's name.

        The logger makes a folder of that name in its log directory.

        >>> writer.get_logdir().endswith("team/first-try")
        True
        """
        return self.log_dir

    @contextmanager
    def use_metadata(self, *, global_step: Any = None, walltime: float | None = None) -> Iterator[Self]:
        """Give the calls inside of the block a step and a wall time, where they have none of their own.

        >>> with writer.use_metadata(global_step=100):
        ...     writer.add_scalar("loss/train", 0.25)
        """
        before = self._default_step, self._default_walltime
        try:
            self._default_step, self._default_walltime = read_step(global_step), walltime
        except Exception as error:  # noqa: BLE001 - the block is the training loop's
            self.telemetry.faults.note("writer.use_metadata", error)
        try:
            yield self
        finally:
            self._default_step, self._default_walltime = before

    def _step(self, global_step: Any) -> int:
        return read_step(global_step, self._default_step)

    def _time(self, walltime: float | None) -> float | None:
        return self._default_walltime if walltime is None else walltime

    def _tag(self, call: str, tag: object) -> str:
        """Return a tag that TensorBoard shows, and tell the change. Raises Malformed for a tag that is no text."""
        return self.telemetry.faults.shown_tag(f"writer.{call}", tag)

    def _keep(
        self, call: str, global_step: Any, walltime: float | None, drafts: Callable[[Note], Iterable[Draft]]
    ) -> None:
        """Keep the messages of ``drafts(note)`` for the method ``call``."""
        self.telemetry.keep(self._step(global_step), drafts, call=f"writer.{call}", walltime=self._time(walltime))
