"""The methods of a writer for several numbers a call: overlays, rows of hyperparameters, and the layout of charts."""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time
from typing import Any, Final, NamedTuple

from tensorboard_sidecar.telemetry.values.points import curve_folders, folder_in_run, hparams_row, overlays
from tensorboard_sidecar.telemetry.values.scalars import Scalar, check_scalar
from tensorboard_sidecar.telemetry.writer.base import TelemetryCalls, WriterBase, guarded

EXPORTED_POINTS_MAX: Final = 100_000
"""Points of ``add_scalars`` that ``export_scalars_to_json`` can write: about 20 MB of memory. The newest are kept."""


class _ExportedPoint(NamedTuple):
    folder: str
    seconds: float
    step: int
    value: float


class CurveMethods(WriterBase):
    """``add_scalars``, ``add_hparams``, ``add_custom_scalars`` and their like."""

    def __init__(self, telemetry: TelemetryCalls, log_dir: str) -> None:
        super().__init__(telemetry, log_dir)
        self._exported: deque[_ExportedPoint] = deque(maxlen=EXPORTED_POINTS_MAX)

    @guarded
    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Scalar],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep several numbers that TensorBoard overlays in one chart: the tag ``main_tag``, a run for each key.

        The curve of a key lies in the folder ``<main_tag>_<key>`` of the run's folder, as with torch's writer. A folder
        is a run in TensorBoard's list: for many keys, ``telemetry.scalars`` is leaner.

        >>> writer.add_scalars("loss", {"train": 0.25, "val": 0.5}, 100)
        """
        tag = self._tag("add_scalars", main_tag)
        step, seconds = self._step(global_step), self._time(walltime)
        good = self.telemetry.faults.convert_each("writer.add_scalars", tag_scalar_dict, check_scalar)
        folders = curve_folders(tag, good)
        by_folder = {folders[name]: value for name, value in good.items()}
        self._keep("add_scalars", step, seconds, lambda _: overlays(tag, by_folder))
        now = time() if seconds is None else seconds
        self._exported.extend(
            _ExportedPoint(folder, now, step, value) for folder, value in by_folder.items() if isinstance(value, float)
        )

    @property
    def scalar_dict(self) -> dict[str, list[list[float]]]:
        """The newest points of ``add_scalars`` by folder, each ``[seconds, step, value]``; none from devices.

        >>> writer.scalar_dict
        {}
        """
        found: dict[str, list[list[float]]] = {}
        for folder, *point in self._exported:
            found.setdefault(str(Path(self.log_dir, folder)), []).append(point)
        return found

    @guarded
    def export_scalars_to_json(self, path: str) -> None:
        """Write the points of ``add_scalars`` to a file: ``{folder: [[seconds, step, value], ...]}``.

        The file has the newest 100,000 points from host memory; a second call writes later points only. This method
        writes to the disk, and the calling thread waits.

        >>> writer.export_scalars_to_json("scalars.json")
        """
        Path(path).write_text(json.dumps(self.scalar_dict), "ascii")
        self._exported.clear()

    @guarded
    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Scalar],
        hparam_domain_discrete: Mapping[str, Sequence[Any]] | str | None = None,
        run_name: str | int | None = None,
        global_step: int | None = None,
        name: str | None = None,
    ) -> None:
        """Keep a set of hyperparameters and its metrics: each call is a row of TensorBoard's HParams tab.

        The row and the curves of its metrics lie in the folder ``run_name`` of the run's folder (default: the time).
        ``hparam_domain_discrete`` lists the values that a parameter may take. What is no bool, number or text is shown
        as text, also None. tensorboardX's order of parameters works too: ``name`` third, ``global_step`` fourth.

        >>> writer.add_hparams({"lr": 1e-3, "depth": 12}, {"accuracy": 0.75}, run_name="trial-1")
        """
        if isinstance(hparam_domain_discrete, str):
            name, hparam_domain_discrete = hparam_domain_discrete, None
        if run_name is not None and not isinstance(run_name, str):
            run_name, global_step = None, run_name if global_step is None else global_step
        faults, call, domains = self.telemetry.faults, "writer.add_hparams", hparam_domain_discrete
        folder = folder_in_run(run_name or name or str(time()))
        plain = faults.parameters(call, hparam_dict)
        good = faults.convert_each(call, metric_dict, check_scalar)
        self._keep("add_hparams", global_step, None, lambda note: [hparams_row(plain, good, folder, domains, note)])

    @guarded
    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Sequence[Any]]]) -> None:
        """Keep a layout ``{category: {chart: ["Multiline" or "Margin", [tags]]}}``; TensorBoard shows the newest.

        >>> writer.add_custom_scalars({"Losses": {"both": ["Multiline", ["loss/train", "loss/val"]]}})
        """
        self.telemetry.layout(0, layout)

    @guarded
    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Keep a layout of one chart with a line for each tag.

        >>> writer.add_custom_scalars_multilinechart(["loss/train", "loss/val"], title="Losses")
        """
        self.telemetry.layout(0, {category: {title: ["Multiline", tags]}})

    @guarded
    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Keep a layout of one chart that shows a value between two margins; three tags: value, lower, upper.

        >>> writer.add_custom_scalars_marginchart(["loss/mean", "loss/low", "loss/high"], title="Loss")
        """
        self.telemetry.layout(0, {category: {title: ["Margin", tags]}})
