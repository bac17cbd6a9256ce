"""The methods of a writer for arrays: histograms, precision-recall curves, meshes, tensors, embeddings."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from tensorboard_sidecar.telemetry.values.arrays import ArrayLike, Pictures
from tensorboard_sidecar.telemetry.values.curves import (
    binned,
    default_bins,
    histogram_raw,
    pr_curve,
    pr_curve_raw,
    raw_tensor,
)
from tensorboard_sidecar.telemetry.values.embedding_parts import by_column
from tensorboard_sidecar.telemetry.values.meshes import mesh
from tensorboard_sidecar.telemetry.values.python_values import on_host
from tensorboard_sidecar.telemetry.writer.base import WriterBase, guarded


class ArrayMethods(WriterBase):
    """``add_histogram``, ``add_pr_curve``, ``add_mesh``, ``add_tensor``, ``add_embedding`` and their like."""

    @property
    def default_bins(self) -> list[float]:
        """The edges of torch's bins named "tensorflow".

        >>> len(writer.default_bins)
        1549
        """
        return list(default_bins())

    @guarded
    def add_histogram(
        self,
        tag: str,
        values: ArrayLike,
        global_step: int | None = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Keep a histogram of a tensor or array of any shape and real dtype.

        The default bins are the buckets of ``telemetry.summaries``, eight an octave, and cost little. Other ``bins``
        (a name or a number that numpy knows, or edges) and ``max_bins`` are counted by numpy on this thread; values on
        a device have the default bins.

        >>> import torch
        >>> writer.add_histogram("weights/encoder", torch.randn(256, 128), 100)
        """
        theirs = isinstance(bins, str) and bins == "tensorflow"
        if theirs and max_bins is None:
            self.telemetry.summaries(self._step(global_step), {tag: values}, walltime=self._time(walltime))
            return
        if isinstance(values, Tensor) and not values.is_cpu:
            self.telemetry.faults.tell(
                "writer.add_histogram", "bins", "values on a device are counted in the default bins"
            )
            self.telemetry.summaries(self._step(global_step), {tag: values}, walltime=self._time(walltime))
            return
        shown = self._tag("add_histogram", tag)
        edges = default_bins() if theirs else bins
        self._keep("add_histogram", global_step, walltime, lambda _: [binned(shown, values, edges, max_bins)])

    @guarded
    def add_histogram_raw(
        self,
        tag: str,
        min: float,
        max: float,
        num: float,
        sum: float,
        sum_squares: float,
        bucket_limits: ArrayLike | Sequence[float],
        bucket_counts: ArrayLike | Sequence[float],
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep a finished histogram: the right edge and the number of values of each bucket, and moments of the values.

        >>> writer.add_histogram_raw("h", 0.0, 3.0, 4, 6.0, 14.0, bucket_limits=[1.5, 3.0], bucket_counts=[2, 2])
        """
        shown, moments = self._tag("add_histogram_raw", tag), (min, max, num, sum, sum_squares)
        self._keep(
            "add_histogram_raw",
            global_step,
            walltime,
            lambda _: [histogram_raw(shown, moments, bucket_limits, bucket_counts)],
        )

    @guarded
    def add_pr_curve(
        self,
        tag: str,
        labels: ArrayLike,
        predictions: ArrayLike,
        global_step: int | None = None,
        num_thresholds: int = 127,
        weights: ArrayLike | float | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep samples for a precision-recall curve: ``labels`` of 0 and 1, ``predictions`` in 0..1.

        The logger counts the samples at ``num_thresholds`` thresholds, at most 127.

        >>> import torch
        >>> writer.add_pr_curve("dogs", torch.tensor([0, 1, 1]), torch.tensor([0.2, 0.7, 0.4]), 100)
        """
        shown = self._tag("add_pr_curve", tag)
        self._keep(
            "add_pr_curve",
            global_step,
            walltime,
            lambda note: [pr_curve(shown, labels, predictions, num_thresholds, weights, note)],
        )

    @guarded
    def add_pr_curve_raw(
        self,
        tag: str,
        true_positive_counts: ArrayLike,
        false_positive_counts: ArrayLike,
        true_negative_counts: ArrayLike,
        false_negative_counts: ArrayLike,
        precision: ArrayLike,
        recall: ArrayLike,
        global_step: int | None = None,
        num_thresholds: int = 127,
        weights: ArrayLike | float | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep a finished precision-recall curve: six arrays with a number for each threshold.

        The number of thresholds is the size of the arrays. ``weights`` has no effect, as in torch's writer.

        >>> import numpy as np
        >>> counts, ratios = np.array([2, 1]), np.array([1.0, 0.5])
        >>> writer.add_pr_curve_raw("dogs", counts, counts, counts, counts, ratios, ratios, 100)
        """
        shown = self._tag("add_pr_curve_raw", tag)
        counts = true_positive_counts, false_positive_counts, true_negative_counts, false_negative_counts
        self._keep(
            "add_pr_curve_raw",
            global_step,
            walltime,
            lambda _: [pr_curve_raw(shown, [*counts, precision, recall])],
        )

    @guarded
    def add_mesh(
        self,
        tag: str,
        vertices: ArrayLike,
        colors: ArrayLike | None = None,
        faces: ArrayLike | None = None,
        config_dict: Mapping[str, Any] | None = None,
        global_step: int | None = None,
        walltime: float | None = None,
    ) -> None:
        """Keep point clouds or meshes: ``vertices [B, N, 3]``, ``colors [B, N, 3]``, ``faces [B, F, 3]``.

        Colours are integers in 0..255, or floats in 0..1. ``faces`` has the places of the three vertices of a face.
        ``config_dict`` has settings of the scene (camera, lights, material) for the mesh plugin.

        >>> import torch
        >>> writer.add_mesh("cloud", torch.rand(1, 100, 3), torch.rand(1, 100, 3), global_step=100)
        """
        shown = self._tag("add_mesh", tag)
        self._keep(
            "add_mesh", global_step, walltime, lambda note: [mesh(shown, vertices, colors, faces, config_dict, note)]
        )

    @guarded
    def add_tensor(
        self, tag: str, tensor: ArrayLike, global_step: int | None = None, walltime: float | None = None
    ) -> None:
        """Keep the values of a tensor themselves, at most 64 MiB; TensorBoard has no tab for them.

        >>> import torch
        >>> writer.add_tensor("attention/first", torch.rand(8, 8), 100)
        """
        shown = self._tag("add_tensor", tag)
        self._keep("add_tensor", global_step, walltime, lambda _: [raw_tensor(shown, tensor)])

    @guarded
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
        ``label_img`` has N pictures ``[N, C, H, W]``; they are shown as thumbnails of at most 64 pixels a side. Sizes
        that disagree are a fault, and the points are kept.

        >>> import torch
        >>> writer.add_embedding(torch.randn(2, 8), metadata=["cat", "dog"], global_step=100, tag="animals")
        """
        columns: Mapping[str, Any] | None = None if metadata is None else {"label": metadata}
        if metadata is not None and metadata_header:
            columns, change = by_column(on_host("metadata", metadata), metadata_header)
            if change is not None:
                self.telemetry.faults.note("SummaryWriter.add_embedding", change)
        shown = "default" if tag is None else tag
        self.telemetry.embedding(self._step(global_step), shown, mat, metadata=columns, images=label_img)
