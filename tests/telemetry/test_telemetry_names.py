"""Names and settings that people give a Telemetry: each is kept, in a form that TensorBoard shows, and said once."""

import zlib
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from support.running.spoken import read_said

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.limits import TAGS_MAX
from tensorboard_sidecar.protocol.messages import HParams, Overlay, RunStart, Scalars, TensorSummaries

HALF: Final = b"t\xed\xa0\x80"
RUNS: Final = {
    "2026-01-01 10:00:00": ("2026-01-01 10:00:00", ""),
    "lr_0.001_" * 15: ("lr_0.001_" * 15, ""),
    "./a//b/": ("a/b", ""),
    "baseline+aug": ("baseline~2Baug", "are written as ~XX"),
    "C:\\runs": ("C:~5Cruns", "are written as ~XX"),
    "a\nb": ("a~0Ab", "are written as ~XX"),
    "rank-3": ("~72ank-3", "are written as ~XX"),
    "/abs/path/x": ("abs/path/x", "a run stays below the log directory"),
    "../x": ("x", "a run stays below the log directory"),
    "~/x": ("x", "a run stays below the log directory"),
    "x" * 300: (f"{'x' * 246}-{zlib.crc32(b'x' * 300):08x}", "a name that is too long is cut"),
}


@pytest.mark.parametrize(
    ("name", "run", "change"), [(name, *found) for name, found in RUNS.items()], ids=range(len(RUNS))
)
def test_a_run_of_any_name_is_kept_and_a_change_is_said(
    tmp_path: Path, name: str, run: str, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Telemetry(name, endpoint=None, record=tmp_path, strict=True) as telemetry:
        telemetry.scalars(1, {"a": 1.0})
        assert telemetry.run == run
        assert telemetry.writer.log_dir == str(tmp_path / run)
    [folder] = {segment.parent for segment in tmp_path.rglob("*.segment")}
    assert folder.parent == tmp_path / run
    told = [record.getMessage() for record in caplog.records]
    assert [change in line and repr(run)[:200] in line for line in told] == [True] * bool(change)


def test_a_run_may_be_a_path(tmp_path: Path) -> None:
    with Telemetry(Path("team/first"), endpoint=None, record=tmp_path, strict=True) as telemetry:
        assert telemetry.run == "team/first"


@dataclass
class Settings:
    lr: float = 0.5
    data: Path = Path("data")


CONFIGS: Final[list[tuple[Any, dict[str, Any]]]] = [
    (None, {}),
    ({}, {}),
    (vars(Namespace(lr=0.1, resume=None, gpus=[0, 1])), {"lr": 0.1, "resume": "None", "gpus": "[0, 1]"}),
    (Namespace(lr=0.1, data=Path("data")), {"lr": 0.1, "data": "data"}),
    (Settings(), {"lr": 0.5, "data": "data"}),
    ({"optimizer": {"lr": 0.1}, 5: torch.float16}, {"optimizer/lr": 0.1, "5": "torch.float16"}),
    ({"step": torch.zeros((), device="meta")}, {"step": "tensor on meta of shape ()"}),
    (
        {"lr": np.float64(0.1), "long": "x" * 5000},
        {"lr": 0.1, "long": f"{'x' * 4076}\N{HORIZONTAL ELLIPSIS} (5,000 characters)"},
    ),
]


@pytest.mark.parametrize(("config", "shown"), CONFIGS, ids=range(len(CONFIGS)))
def test_a_config_of_any_values_starts_a_run(tmp_path: Path, config: Any, shown: dict[str, Any]) -> None:
    Telemetry("run", endpoint=None, record=tmp_path, strict=True, config=config).close()
    assert read_said(tmp_path)[0].message == RunStart(0, shown)


def test_a_setting_without_a_text_costs_only_itself_and_is_a_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry(
        "run", endpoint=None, record=tmp_path, config={"lr": 0.1, "model": object(), "lock": object()}
    )
    assert telemetry.health()["telemetry/faults"] == 1.0
    telemetry.close()
    assert read_said(tmp_path)[0].message == RunStart(0, {"lr": 0.1})
    assert "parameters are left out: model (is a object without a text), lock (" in caplog.text


BAD_PARAMETERS: Final[dict[str, tuple[Any, Any]]] = {
    "a list": ([32, 128], "[32, 128]"),
    "a path": (Path("a"), "a"),
    "a large number": (2**70, str(2**70)),
    "a long text": ("x" * 5000, f"{'x' * 4076}\N{HORIZONTAL ELLIPSIS} (5,000 characters)"),
    "a device": (torch.zeros((), device="meta"), "tensor on meta of shape ()"),
    "no text": (object(), None),
}


@pytest.mark.parametrize(("value", "shown"), BAD_PARAMETERS.values(), ids=BAD_PARAMETERS)
def test_one_hyperparameter_costs_neither_the_others_nor_the_metrics(tmp_path: Path, value: Any, shown: Any) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path) as telemetry:
        telemetry.writer.add_hparams({"lr": 0.1, "bad": value, "depth": 3}, {"hparam/acc": 0.9}, run_name="row")
        assert telemetry.faults.total == (shown is None)
    message = read_said(tmp_path)[1].message
    parameters = {"lr": 0.1, "bad": shown, "depth": 3}
    assert message == HParams(
        {name: each for name, each in parameters.items() if each is not None}, {"hparam/acc": 0.9}, "row"
    )


TAGS: Final[dict[str, tuple[Any, str]]] = {
    "no title": ("", "untitled"),
    "blank": (" ", "untitled"),
    "a line break": ("a cat\nphoto", "a cat\N{SYMBOL FOR LINE FEED}photo"),
    "half a character": ("t\ud800", f"t\ufffd\N{HORIZONTAL ELLIPSIS}{zlib.crc32(HALF):08x}"),
    "a direction": ("\u202ea", "\\u202ea"),
    "a number": (5, "5"),
    "a text of numpy": (np.str_("a"), "a"),
    "long": ("x" * 10**6, f"{'x' * 503}\N{HORIZONTAL ELLIPSIS}{zlib.crc32(b'x' * 10**6):08x}"),
}
CALLS_WITH_TAG: Final[dict[str, Callable[[Telemetry, Any], None]]] = {
    "scalars": lambda telemetry, tag: telemetry.scalars(1, {tag: 1.0, "good": 2.0}),
    "scalars on a device": lambda telemetry, tag: telemetry.scalars(1, {tag: torch.tensor(1.0)}),
    "summaries": lambda telemetry, tag: telemetry.summaries(1, {tag: torch.ones(2)}),
    "matrix": lambda telemetry, tag: telemetry.matrix(1, tag, torch.ones(2, 2)),
    "images": lambda telemetry, tag: telemetry.images(1, tag, torch.ones(1, 3, 4, 4)),
    "text": lambda telemetry, tag: telemetry.text(1, tag, "x"),
    "audio": lambda telemetry, tag: telemetry.audio(1, tag, [torch.ones(9)], sample_rate_hz=8000),
    "embedding": lambda telemetry, tag: telemetry.embedding(1, tag, torch.ones(2, 3)),
    "parameters": lambda telemetry, tag: telemetry.hparams(1, {tag: 1, "good": 2}, {}),
    "metrics": lambda telemetry, tag: telemetry.hparams(1, {}, {tag: 1.0, "good": 2.0}),
    "add_scalar": lambda telemetry, tag: telemetry.writer.add_scalar(tag, 1.0, 1),
    "add_image": lambda telemetry, tag: telemetry.writer.add_image(tag, torch.ones(3, 4, 4), 1),
    "add_hparams": lambda telemetry, tag: telemetry.writer.add_hparams({tag: 1}, {tag: 1.0}, global_step=1),
}


def tags_of(message: Any) -> set[str]:
    """Return the tags of a message of any kind."""
    names = {"values": "values", "summaries": "summaries"}
    if isinstance(message, HParams):
        return {*message.parameters, *message.metrics}
    if isinstance(message, Scalars | TensorSummaries):
        return set(getattr(message, names["values" if isinstance(message, Scalars) else "summaries"]))
    return {message.tag}


@pytest.mark.parametrize("call", CALLS_WITH_TAG.values(), ids=CALLS_WITH_TAG)
@pytest.mark.parametrize(("tag", "shown"), TAGS.values(), ids=TAGS)
def test_a_tag_that_cannot_be_shown_costs_no_value(
    tmp_path: Path, call: Callable[[Telemetry, Any], None], tag: Any, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Strict telemetry too: nothing is lost, so nothing is raised."""
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for _ in range(3):
            call(telemetry, tag)
        assert telemetry.faults.total == 0
    _, *said, _ = read_said(tmp_path)
    assert [tags_of(message) - {"good"} for _, message in said] == [{shown}] * 3
    told = [record.getMessage() for record in caplog.records if "is shown as " in record.getMessage()]
    assert len(told) <= 2
    assert bool(told) == (tag != shown) or tag == 5, "a number as the name of a parameter is usual"


def test_a_main_tag_that_cannot_be_shown_costs_no_value(tmp_path: Path) -> None:
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        for main_tag in ("", 5, "a\nb"):
            telemetry.writer.add_scalars(main_tag, {"x": 1.0, "": 2.0, 3: 3.0}, 1)  # type: ignore[arg-type, dict-item]
    _, *said, _ = read_said(tmp_path)
    assert [message for _, message in said] == [
        Overlay(main, {f"{main}_x": 1.0, f"{main}_untitled": 2.0, f"{main}_3": 3.0})
        for main in ("untitled", "5", "a\N{SYMBOL FOR LINE FEED}b")
    ]


def test_more_tags_than_a_record_takes_are_several_records(tmp_path: Path) -> None:
    many = {f"t/{number}": float(number) for number in range(2 * TAGS_MAX + 1)}
    few = {f"t/{number}": torch.ones(1) for number in range(TAGS_MAX + 1)}
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True, drain_seconds=60) as telemetry:
        telemetry.scalars(1, many)
        telemetry.summaries(2, few)
    _, *said, _ = read_said(tmp_path)
    assert [(step, len(tags_of(message))) for step, message in said] == [
        *((1, TAGS_MAX), (1, TAGS_MAX), (1, 1)),
        *((2, TAGS_MAX), (2, 1)),
    ]
    first, second, third = (message.values for _, message in said[:3] if isinstance(message, Scalars))
    assert {**first, **second, **third} == many
