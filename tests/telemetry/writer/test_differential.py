"""The same calls on torch's writer, on tensorboardX's and on this project's: their event files show the same.

Each call has a wall time where both peers take one. What differs is in ``NOT_WRITTEN``, ``DRAWN_ANEW``, ``OWN_BUCKETS``
and ``our_key``; docs/DIFFERENCES.md has the reasons.
"""

import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from support.records.shown_values import Found, Shown, shown_values
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboardX import SummaryWriter as XWriter
from tensorboardX.proto import event_pb2 as x_event_pb2
from tensorboardX.proto import summary_pb2 as x_summary_pb2
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.logger_service.projection.replay import replay

START: Final = 1_700_000_000.0
Call = Callable[[Any, float], object]


def add(name: str, /, *arguments: Any, **keywords: Any) -> Call:
    """Return a call of the method ``name``, with the wall time of the call."""
    return lambda writer, time: getattr(writer, name)(*arguments, walltime=time, **keywords)


def untimed(name: str, /, *arguments: Any, **keywords: Any) -> Call:
    """Return a call of a method without a wall time."""
    return lambda writer, _: getattr(writer, name)(*arguments, **keywords)


def summary_of(writer: Any, tag: str, value: float) -> Any:
    """Return a summary of the writer's own library; this project's writer takes both."""
    protos = x_summary_pb2 if isinstance(writer, XWriter) else summary_pb2
    return protos.Summary(value=[protos.Summary.Value(tag=tag, simple_value=value)])


def event_of(writer: Any, tag: str, step: int) -> Any:
    protos = x_event_pb2 if isinstance(writer, XWriter) else event_pb2
    return protos.Event(step=step, summary=summary_of(writer, tag, 0.25))


def picture(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    values = np.random.default_rng(sum(shape)).random(shape)
    return (values * 255).astype(dtype) if dtype == "uint8" else values.astype(dtype)


def figure() -> Figure:
    made = Figure(figsize=(2, 1), dpi=50)
    made.add_subplot().plot([1, 3, 2])
    return made


def scalars() -> list[Call]:
    numbers = [0.5, -1, True, np.float32(2.5), np.float64(1e-3), np.int64(7), np.array([1.5]), np.array(3)]
    numbers += [torch.tensor(0.25), torch.tensor([4]), torch.tensor([[5.0]], requires_grad=True)]
    numbers += [float("nan"), float("inf"), -float("inf"), 1e30, 1e-30, -0.0, 2**40, torch.tensor(1.5).half()]
    calls = [add("add_scalar", f"kinds/{number % 3}", value, number) for number, value in enumerate(numbers)]
    calls += [add("add_scalar", "steps", 1.0, step) for step in (None, -1, 0, np.int64(5), 6.0, torch.tensor(7), 2**31)]
    calls += [add("add_scalar", tag, 1.0, 1) for tag in ("a", "a/b", "a_b/c.d-e", "x" * 200)]
    names: list[dict[str, int]] = [{"a": 1}, {"a": 2, "b": 3}, {"b": 4, "c": 5}]
    calls += [add("add_scalars", "main", values, step) for step, values in enumerate(names)]
    return [*calls, add("add_scalars", "main/deep", {"a": 0.5, "b": torch.tensor(1.5)}, 3)]


def histograms() -> list[Call]:
    values = np.random.default_rng(0).normal(size=200)
    calls = [add("add_histogram", "h/default", values * scale, step) for step, scale in enumerate([1, 1e-3, 1e6])]
    calls += [add("add_histogram", "h/torch", torch.tensor(values), 1), add("add_histogram", "h/ints", np.arange(9), 1)]
    calls += [add("add_histogram", f"h/{bins}", values, 1, bins) for bins in ("auto", "fd", "sturges", "sqrt")]
    calls += [add("add_histogram", "h/few", values, 1, bins, max_bins=7) for bins in (50, "auto")]
    calls += [add("add_histogram", "h/edges", values, 1, [-2.0, 0.0, 1.0, 4.0])]
    limits, counts = [0.5, 1.5, 2.5], [2, 0, 5]
    raw = (0, 2.5, 7, 10, 20.5)
    calls += [add("add_histogram_raw", "h/raw", *raw, np.array(limits), np.array(counts), 1)]
    return [*calls, add("add_histogram_raw", "h/raw", *raw, limits, counts, 2)]


def pictures() -> list[Call]:
    shapes = {"CHW": (3, 6, 8), "HWC": (6, 8, 3), "HW": (6, 8), "WH": (8, 6), "WHC": (8, 6, 3), "CWH": (1, 8, 6)}
    calls = [
        add("add_image", f"i/{letters}", picture(*shape), 1, dataformats=letters) for letters, shape in shapes.items()
    ]
    calls += [add("add_image", f"i/{dtype}", picture(3, 6, 8, dtype=dtype), 1) for dtype in ("float64", "uint8")]
    calls += [add("add_image", f"i/{channels}", picture(channels, 6, 8), 1) for channels in (1, 4)]
    calls += [add("add_image", "i/steps", torch.tensor(picture(3, 5, 5)) / step, step) for step in (1, 2, 3)]
    batches = {"NCHW": (4, 3, 6, 8), "NHWC": (10, 6, 8, 3), "CHWN": (1, 6, 8, 3)}
    calls += [
        add("add_images", f"n/{letters}", picture(*shape), 1, dataformats=letters) for letters, shape in batches.items()
    ]
    boxes = np.array([[1, 1, 6, 5], [2, 2, 4, 4]])
    return [
        *calls,
        add("add_image_with_boxes", "b/plain", picture(3, 20, 30), boxes * 4, 1),
        add("add_image_with_boxes", "b/scaled", picture(20, 30, 3), boxes * 4, 1, rescale=2, dataformats="HWC"),
        lambda writer, time: writer.add_figure("f/one", figure(), 1, walltime=time),
        lambda writer, time: writer.add_figure("f/list", [figure(), figure()], 1, walltime=time),
        lambda writer, time: writer.add_figure("f/open", figure(), 2, False, time),
    ]


def sounds_and_texts() -> list[Call]:
    wave = np.sin(np.arange(400) / 7)
    calls = [add("add_audio", "s/mono", wave, 1), add("add_audio", "s/rate", torch.tensor(wave) / 2, 2, 8_000)]
    calls += [add("add_audio", "s/float32", wave.astype(np.float32), step, sample_rate=16_000) for step in (1, 2)]
    texts = ["plain", "**bold**", "| a | b |\n| - | - |\n| 1 | 2 |", "", "käse 🧀", "x" * 5_000]
    return [*calls, *(add("add_text", f"t/{number % 2}", text, number) for number, text in enumerate(texts))]


def curves() -> list[Call]:
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 2, 100), random.random(100).astype(np.float32)
    rows = random.random((6, 127))
    cloud, colors = random.random((1, 9, 3)), random.integers(0, 255, (1, 9, 3))
    faces = random.integers(0, 9, (1, 4, 3))
    calls = [add("add_pr_curve", "p/default", labels, predictions, step) for step in (1, 2)]
    calls += [add("add_pr_curve", f"p/{number}", labels, predictions, 1, number) for number in (2, 10, 127, 500)]
    calls += [add("add_pr_curve", "p/torch", torch.tensor(labels), torch.tensor(predictions), 1)]
    calls += [
        add("add_pr_curve", "p/weights", labels, predictions, 1, weights=weights)
        for weights in (2.0, random.random(100))
    ]
    calls += [add("add_pr_curve_raw", "p/raw", *rows, 1), add("add_pr_curve_raw", "p/raw", *rows[:, :5], 2, 5)]
    calls += [add("add_mesh", "m/cloud", torch.tensor(cloud), global_step=step) for step in (1, 2)]
    calls += [add("add_mesh", "m/colors", torch.tensor(cloud), torch.tensor(colors), global_step=1)]
    config = {"material": {"cls": "PointsMaterial", "size": 0.5}}
    everything = [torch.tensor(part) for part in (cloud, colors, faces)]
    return [*calls, add("add_mesh", "m/mesh", *everything, config_dict=config, global_step=1)]


def descriptions() -> list[Call]:
    layouts = [
        {"A": {"x": ["Multiline", ["kinds/.*"]], "y": ["Margin", ["a", "b", "c"]]}},
        {"B": {"z": ["Multiline", []]}},
    ]
    calls = [untimed("add_custom_scalars", layout) for layout in layouts]
    calls += [untimed("add_custom_scalars_multilinechart", ["a", "b"], "C", "both")]
    calls += [untimed("add_custom_scalars_marginchart", ["a", "b", "c"])]
    calls += [
        lambda writer, time: writer._get_file_writer().add_summary(summary_of(writer, "own/summary", 0.5), 1, time),
        lambda writer, time: writer.file_writer.add_summary(summary_of(writer, "own/summary", 0.75), 2, time),
        lambda writer, time: writer.file_writer.add_event(event_of(writer, "own/event", 7), walltime=time),
        lambda writer, time: writer.file_writer.add_event(event_of(writer, "own/event", 7), 8, time),
    ]
    return calls


def rows_of_torch() -> list[Call]:
    parameters = {"lr": 0.1, "depth": 3, "name": "adam", "deep": True, "beta": torch.tensor([0.5])}
    domains = {"lr": [0.1, 0.01], "name": ["adam", "sgd"]}
    return [
        untimed("add_hparams", parameters, {"best": 0.5, "worst": torch.tensor(1.5)}, domains, "trial", 5),
        untimed("add_hparams", {"lr": 0.5}, {"best": 0.25}, run_name="deep/trial"),
    ]


def rows_of_x() -> list[Call]:
    parameters = {"lr": 0.1, "depth": 3, "name": "adam", "deep": True}
    return [
        untimed("add_hparams", parameters, {"best": 0.5, "worst": 1.5}, "trial", 5),
        untimed("add_hparams", {"lr": 0.5}, {"best": 0.25}, name="deep/trial"),
    ]


def only_torchs() -> list[Call]:
    tensors = [torch.arange(6.0).reshape(2, 3), torch.ones(2, dtype=torch.float64), torch.arange(3), torch.tensor(2.5)]
    tensors += [torch.arange(5, dtype=torch.int32)]
    calls = [add("add_scalar", "new/float", value, 1, new_style=True) for value in (0.1, 1.0, 1e30)]
    calls += [
        add("add_scalar", "new/double", value, 1, new_style=True, double_precision=True) for value in (0.1, 1e300)
    ]
    calls += [add("add_scalar", "new/neither", 0.1, 1, double_precision=True)]
    return (
        calls + rows_of_torch() + [add("add_tensor", f"x/{number}", tensor, 1) for number, tensor in enumerate(tensors)]
    )


def only_xs() -> list[Call]:
    named = {"display_name": "shown", "summary_description": "*described*"}
    stereo = np.stack([np.sin(np.arange(400) / 7), np.cos(np.arange(400) / 7)], 1)
    return [
        add("add_scalar", "named/both", 0.5, 1, **named),
        add("add_scalar", "named/one", 0.5, 1, display_name="shown"),
        lambda writer, time: writer.add_scalar("named/places", 0.5, 1, time, "shown", "*described*"),
        add("add_images", "n/list", [picture(3, 6, 8)] * 3, 1, dataformats="CHW"),
        add("add_audio", "s/stereo", stereo, 1),
        add("add_audio", "s/two_sides", stereo[:, :1], 1),
        *rows_of_x(),
    ]


def training() -> list[Call]:
    return [add("add_scalar", f"loop/{tag}", 1 / (step + 1), step) for step in range(20) for tag in ("loss", "lr")]


COMMON: Final = [*training(), *scalars(), *histograms(), *pictures(), *sounds_and_texts(), *curves(), *descriptions()]
PEERS: Final = {"torch": (TorchWriter, [*COMMON, *only_torchs()]), "tensorboardX": (XWriter, [*COMMON, *only_xs()])}


def make(writer: Any, calls: list[Call]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, call in enumerate(calls):
            call(writer, START + number)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Found, Found]]:
    """Return what the event files of this project and of a peer show, for the same calls."""
    kept: dict[str, tuple[Found, Found]] = {}

    def found(peer: str) -> tuple[Found, Found]:
        if peer not in kept:
            root = tmp_path_factory.mktemp(peer)
            make_peer, calls = PEERS[peer]
            with Telemetry("run", endpoint=None, record=root / "recording") as telemetry:
                make(telemetry.writer, calls)
                faults = telemetry.faults.total
            [replayed] = replay([root / "recording"], root / "ours")
            assert not replayed.failure
            with make_peer(str(root / "theirs")) as writer:
                make(writer, calls)
            kept[peer] = shown_values(root / "ours" / "run"), shown_values(root / "theirs")
            assert faults == 0
        return kept[peer]

    return found


def test_there_are_150_calls() -> None:
    assert all(len(calls) >= 150 for _, calls in PEERS.values())


Shape = tuple[int, ...]
# Some of the calls are of values that are not finite: docs/DIFFERENCES.md has a row.
FINDINGS: Final = {(".", "findings"), (".", "findings/open")}
NOT_WRITTEN: Final = {
    "torch": {("deep/trial", "_hparams_/experiment")},
    "tensorboardX": {("trial", "_hparams_/experiment"), ("deep/trial", "_hparams_/experiment")},
}
"""Columns of the HParams tab, which are there only with domains."""
OWN_BUCKETS: Final = ("h/default", "h/torch", "h/ints")


def same(ours: Shape, theirs: Shape) -> bool:
    return ours == theirs


def as_many_pixels(ours: Shape, theirs: Shape) -> bool:
    """Tell whether a grid has the pixels of a grid with other columns, and some more between the pictures."""
    return ours[0] * ours[1] >= theirs[0] * theirs[1]


DRAWN_ANEW: Final[dict[str, Callable[[Shape, Shape], bool]]] = {
    **dict.fromkeys(("b/plain", "b/scaled"), same),  # the lines of boxes
    **dict.fromkeys(("n/NCHW", "n/NHWC", "n/CHWN", "n/list", "f/list"), as_many_pixels),  # the grid
}
PARTS_OF_MESHES: Final = {"1": "VERTEX", "2": "FACE", "3": "COLOR"}


def our_key(peer: str, folder: str, tag: str) -> tuple[str, str]:
    """Return where this project has what a peer has in a folder, under a tag."""
    if peer == "torch":
        return folder, tag
    if tag.startswith("main"):
        return folder.replace("/", "_"), tag
    name, _, part = tag.rpartition("_")
    return folder, f"{name}_{PARTS_OF_MESHES[part]}" if tag.startswith("m/") else tag


def of_calls(found: Found) -> Found:
    """Return what calls show, without what this project adds: the run's config and status."""
    return {key: shown for key, shown in found.items() if not key[1].startswith("run/")}


def check_same(ours: Shown, theirs: Shown, tag: str) -> None:
    assert ours.step == theirs.step or tag.startswith("_hparams_")  # tensorboardX's rows have no step
    if theirs.wall_time < START + 1_000:  # a call with a wall time
        assert ours.wall_time == pytest.approx(theirs.wall_time, abs=1e-6)
    assert (ours.form, ours.plugin) == (theirs.form, theirs.plugin)
    assert ours.names == theirs.names
    check_content(ours, theirs, tag)


def check_content(ours: Shown, theirs: Shown, tag: str) -> None:
    match theirs.form:
        case "histo":
            close(ours.content["moments"], theirs.content["moments"], relative=1e-6)
            if tag not in OWN_BUCKETS:
                close(ours.content["buckets"], theirs.content["buckets"])
        case "image" if tag in DRAWN_ANEW:
            assert DRAWN_ANEW[tag](ours.content.shape, theirs.content.shape)
        case "image":
            assert ours.content.shape == theirs.content.shape
            assert np.abs(ours.content.astype(int) - theirs.content).max() <= 1  # the peers truncate to bytes
        case "audio":
            assert ours.content[:2] == theirs.content[:2]
            assert np.abs(ours.content[2].astype(int) - theirs.content[2]).max() <= 2  # rounding, as with pictures
        case "tensor" if isinstance(theirs.content, np.ndarray):
            assert (ours.content.dtype, ours.content.shape) == (theirs.content.dtype, theirs.content.shape)
            close(ours.content, theirs.content, relative=1e-6)
        case "simple_value":
            close(ours.content, theirs.content)
        case _:
            assert ours.content == theirs.content


def close(ours: Any, theirs: Any, relative: float = 1e-12) -> None:
    np.testing.assert_allclose(ours, theirs, rtol=relative, atol=1e-12)


@pytest.mark.parametrize("peer", PEERS)
def test_the_same_calls_show_the_same(both: Callable[[str], tuple[Found, Found]], peer: str) -> None:
    ours, theirs = map(of_calls, both(peer))
    found = {our_key(peer, *key): shown for key, shown in theirs.items()}
    problems = [f"more: {key}" for key in ours.keys() - found.keys() - FINDINGS]
    problems += [f"missing: {key}" for key in found.keys() - ours.keys() - NOT_WRITTEN[peer]]
    for key in ours.keys() & found.keys():
        if len(ours[key]) != len(found[key]):
            problems.append(f"{key}: {len(ours[key])} values, {peer} has {len(found[key])}")
            continue
        for mine, other in zip(ours[key], found[key], strict=True):
            try:
                check_same(mine, other, key[1])
            except AssertionError as error:
                reason = str(error).partition("\n")[0]
                problems.append(f"{key} at step {other.step}: {reason}; ours {mine!s:.200}, theirs {other!s:.200}")
    assert not problems, "\n".join(sorted(problems))
