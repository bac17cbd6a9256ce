"""Every parameter of every method, given rubbish: the call raises nothing, and the writer goes on."""

import inspect
import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from support.running.spoken import read_said
from torch import nn

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.messages import RunEnd, Scalars
from tensorboard_sidecar.telemetry.writer.methods import WriterMethods


class Hostile:
    """An object whose every use raises."""

    def __getattr__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def _raise(self, *_: Any) -> Any:
        raise ZeroDivisionError

    __str__ = __repr__ = __len__ = __iter__ = __eq__ = __hash__ = __bool__ = __float__ = __int__ = _raise
    __index__ = __array__ = __getitem__ = __format__ = _raise


RUBBISH: Final[dict[str, Any]] = {
    "None": None,
    "object": object(),
    "class": dict,
    "text": "rubbish",
    "no text": "",
    "surrogate": "\ud83d",
    "bytes": b"\xff",
    "list": [],
    "nested": [[], [1]],
    "mapping": {},
    "keys": {1: 2, None: object()},
    "nan": float("nan"),
    "negative": -1,
    "huge": 10**400,
    "complex": 1j,
    "generator": (each for each in (1, "a")),
    "meta": torch.zeros(3, device="meta"),
    "no elements": torch.zeros(0),
    "sides": torch.zeros(1, 1, 1, 1, 1, 1, 1),
    "sparse": torch.eye(3).to_sparse(),
    "objects": np.array([object(), None]),
    "texts": np.array(["a", "b"]),
    "hostile": Hostile(),
}
ROW: Final = np.ones(4)
PICTURE: Final = torch.ones(3, 4, 5)
GOOD: Final[dict[str, tuple[Any, ...]]] = {
    "add_scalar": ("a", 1.0, 7, 1.0, True, True, "name", "text"),
    "add_scalars": ("a", {"b": 1.0}, 7, 1.0),
    "add_histogram": ("h", ROW, 7, 5, 1.0, 3),
    "add_histogram_raw": ("h", 0, 1, 2, 1, 1, [1.0], [2.0], 7, 1.0),
    "add_image": ("i", PICTURE, 7, 1.0, "CHW"),
    "add_images": ("i", PICTURE[None], 7, 1.0, "NCHW"),
    "add_image_with_boxes": ("b", PICTURE, torch.ones(1, 4), 7, 1.0, 2, "CHW", ["a"]),
    "add_figure": ("f", Figure(figsize=(1, 1), dpi=10), 7, True, 1.0),
    "add_video": ("v", PICTURE[None, None], 7, 4, 1.0, "NTCHW"),
    "add_audio": ("s", torch.zeros(100), 7, 8_000, 1.0),
    "add_text": ("t", "x", 7, 1.0),
    "add_pr_curve": ("p", ROW, ROW, 7, 10, ROW, 1.0),
    "add_pr_curve_raw": ("p", *[ROW] * 6, 7, 4, None, 1.0),
    "add_mesh": ("m", torch.ones(1, 4, 3), torch.ones(1, 4, 3), torch.zeros(1, 2, 3), {"a": 1}, 7, 1.0),
    "add_tensor": ("x", ROW, 7, 1.0),
    "add_embedding": (torch.ones(2, 3), [["x"], ["y"]], torch.ones(2, 3, 4, 4), 7, "e", ["name"]),
    "add_graph": (nn.Linear(2, 2), torch.zeros(1, 2), False, True),
    "add_onnx_graph": ("no-file.onnx", None),
    "add_openvino_graph": ("no-file.xml",),
    "add_hparams": ({"lr": 0.1}, {"best": 0.5}, {"lr": [0.1]}, "row", 7, "row"),
    "add_custom_scalars": ({"a": {"b": ["Multiline", ["c"]]}},),
    "add_custom_scalars_multilinechart": (["a"], "b", "c"),
    "add_custom_scalars_marginchart": (["a", "b", "c"], "d", "e"),
    "export_scalars_to_json": ("scalars.json",),
    "keep_event": (b"*\x00", 7, 1.0),
}
BELOW: Final[dict[str, tuple[Any, ...]]] = {
    "add_event": (b"*\x00", 7, 1.0),
    "add_summary": (b"", 7, 1.0),
    "add_graph": (b"", 1.0),
    "add_onnx_graph": (b"", 1.0),
    "add_openvino_graph": (b"", 1.0),
}


def test_every_method_has_good_arguments_here() -> None:
    methods = {name for name, _ in inspect.getmembers(WriterMethods, inspect.isfunction) if not name.startswith("_")}
    assert methods - GOOD.keys() == {"flush", "close", "get_logdir", "use_metadata"}


def try_all(writer: Any, name: str, good: tuple[Any, ...]) -> None:
    method = getattr(writer, name)
    method(*good)
    for place in range(len(good)):
        for rubbish in RUBBISH.values():
            method(*good[:place], rubbish, *good[place + 1 :])
    for rubbish in RUBBISH.values():
        method(*[rubbish] * len(good))


@pytest.mark.parametrize("name", sorted(GOOD))
def test_rubbish_raises_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(), Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        warnings.simplefilter("ignore")
        try_all(telemetry.writer, name, GOOD[name])
        telemetry.writer.add_scalar("after", 0.5, 9)
    said = read_said(tmp_path)
    assert [message for _, message in said[-2:]] == [Scalars({"after": 0.5}), RunEnd("completed")]


@pytest.mark.parametrize("name", sorted(BELOW))
def test_rubbish_for_the_writer_below_raises_nothing(tmp_path: Path, name: str) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        try_all(telemetry.writer.file_writer, name, BELOW[name])
        telemetry.writer.add_scalar("after", 0.5, 9)
    assert read_said(tmp_path)[-2].message == Scalars({"after": 0.5})


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_as_metadata_raises_nothing(tmp_path: Path, rubbish: Any) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        with telemetry.writer.use_metadata(global_step=rubbish, walltime=rubbish):
            telemetry.writer.add_scalar("during", 0.5)
        telemetry.writer.add_scalar("after", 0.5, 9)
    assert read_said(tmp_path)[-2].message == Scalars({"after": 0.5})


@pytest.mark.parametrize("name", sorted(GOOD))
def test_missing_and_unknown_arguments_raise_nothing(tmp_path: Path, name: str) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        getattr(telemetry.writer, name)(*GOOD[name], unknown=5)
        getattr(telemetry.writer, name)(*GOOD[name], *range(20))
        assert telemetry.faults.total == 2
