"""The methods of a writer: those of torch's and tensorboardX's ``SummaryWriter`` on top of a ``Telemetry``.

A script replaces the line that makes its writer; its other lines stay. The methods have the parameters of both peers:
the same names, order and defaults. Where the order of the two differs, the type of a value tells which is meant.
docs/DIFFERENCES.md lists what remains different, with reasons. In short:

- No method writes a file, except ``export_scalars_to_json``. ``flush`` returns at once, because there is nothing to
  flush in this process.
- ``global_step=None`` means step 0. A step that is a tensor on a device is a fault.
- An unknown method is an AttributeError. Every other error is a fault: logged once, counted, and raised only when the
  telemetry is strict.

Each file of this folder has the methods of one kind: curves, arrays, pictures, graphs, events.
"""

from typing import Self, cast

from tensorboard_sidecar.telemetry.values.points import Form, point
from tensorboard_sidecar.telemetry.values.scalars import Scalar
from tensorboard_sidecar.telemetry.writer.array_methods import ArrayMethods
from tensorboard_sidecar.telemetry.writer.base import OpensAgain, TelemetryCalls, guarded
from tensorboard_sidecar.telemetry.writer.curve_methods import CurveMethods
from tensorboard_sidecar.telemetry.writer.event_writer import EventMethods
from tensorboard_sidecar.telemetry.writer.graph_methods import GraphMethods
from tensorboard_sidecar.telemetry.writer.picture_methods import PictureMethods
from tensorboard_sidecar.telemetry.writer.plain_scalars import keeps_plain_scalars


class WriterMethods(CurveMethods, ArrayMethods, PictureMethods, GraphMethods, EventMethods):
    """Torch's and tensorboardX's ``SummaryWriter``, method by method, keeping records through a ``Telemetry``.

    ``telemetry.writer`` is one. ``log_dir`` is for programs that read that attribute. As with every call of telemetry,
    an error is a fault (logged once, counted) and raises only when the telemetry is strict. In the examples of the
    methods, ``writer`` belongs to an open Telemetry.

    >>> from tensorboard_sidecar import Telemetry
    >>> with Telemetry("team/first-try", endpoint=None, record="recordings").writer as writer:
    ...     for step in range(3):
    ...         writer.add_scalar("loss/train", 1 / (step + 1), step)
    """

    def __init__(self, telemetry: TelemetryCalls, log_dir: str) -> None:
        super().__init__(telemetry, log_dir)
        self._lasting = telemetry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exc_type: object, exc_val: BaseException | None, exc_tb: object) -> None:
        self._closed = True
        self._lasting.__exit__(exc_type, exc_val, exc_tb)

    @keeps_plain_scalars
    @guarded
    def add_scalar(
        self,
        tag: str,
        scalar_value: Scalar,
        global_step: int | None = None,
        walltime: float | None = None,
        new_style: bool | str = False,
        double_precision: bool | str = False,
        display_name: str = "",
        summary_description: str = "",
    ) -> None:
        """Keep one number: a float, an int, or a tensor with one element, on any device.

        ``walltime`` is the time of the record in seconds since 1970 (default: now). With ``new_style`` the event file
        has a tensor of float32, or of float64 with ``double_precision``. TensorBoard shows ``display_name`` instead of
        the tag, and ``summary_description`` (markdown) behind a button. tensorboardX's order of parameters works too:
        ``display_name`` fifth, ``summary_description`` sixth.

        >>> writer.add_scalar("loss/train", 0.25, 100)
        """
        if (
            walltime is not None
            or new_style
            or double_precision
            or display_name
            or summary_description
            or self._default_walltime is not None
        ):
            names = (display_name, summary_description)
            self._add_point(tag, scalar_value, global_step, walltime, (new_style, double_precision), names)
            return
        self.telemetry.scalars(self._step(global_step), {tag: scalar_value})

    def _add_point(
        self,
        tag: str,
        value: Scalar,
        global_step: int | None,
        walltime: float | None,
        style: tuple[bool | str, bool | str],
        names: tuple[str, str],
    ) -> None:
        """Keep one number with a time, a form or names of its own; texts in ``style`` are tensorboardX's names."""
        shown = self._tag("add_scalar", tag)
        new_style, double_precision = (not isinstance(given, str) and bool(given) for given in style)
        name, description = (
            given if isinstance(given, str) and given else own for given, own in zip(style, names, strict=True)
        )
        form: Form = "simple" if not new_style else "double" if double_precision else "float"
        self._keep(
            "add_scalar", global_step, walltime, lambda note: [point(shown, value, form, name, description, note)]
        )

    def flush(self) -> None:
        """Return at once: each call has kept its values when it returns.

        >>> writer.flush()
        """

    def close(self) -> None:
        """Close the telemetry, see ``Telemetry.close``; a later call of the writer opens the telemetry again.

        After ``Telemetry.close``, and after the end of a ``with`` block, nothing opens again.

        >>> writer.close()
        """
        if not self._closed:
            self._closed = True
            self._lasting.suspend()
            self.telemetry = cast("TelemetryCalls", OpensAgain(self._resume, self._lasting.faults))

    def _resume(self) -> TelemetryCalls:
        self._closed = not self._lasting.resume()
        self.telemetry = self._lasting
        return self._lasting
