import re
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from support.records import expected
from support.running.spoken import read_said

from tensorboard_sidecar import Finding, Telemetry
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.trainer.losses import Losses
from tensorboard_sidecar.trainer.model import Latents
from tensorboard_sidecar.trainer.reporting import (
    FINDINGS_SHOWN_MAX,
    TrainingSummary,
    caption_table,
    custom_layout,
    report_step,
)
from tensorboard_sidecar.trainer.state import GradientNorms


def test_captions_stand_beside_the_numbers_of_their_pictures() -> None:
    assert caption_table(("a dog", "two cats")).split("\n") == [
        "| image | caption |",
        "| ---: | :--- |",
        "| 1 | a dog |",
        "| 2 | two cats |",
    ]


def test_what_would_end_a_cell_or_a_row_is_escaped() -> None:
    rows = caption_table(("a | b\nc\\",)).split("\n")
    assert rows[2:] == [r"| 1 | a \| b c\\ |"]


def test_a_caption_is_no_markdown() -> None:
    assert caption_table(("_two_ *dogs* [run](x)",)).split("\n")[2] == r"| 1 | \_two\_ \*dogs\* \[run\](x) |"


def test_equal_vectors_have_no_deviation_over_the_batch(tmp_path: Path) -> None:
    """One constant vector for every picture is a collapse, which the deviation of all components does not show."""
    constant = torch.tensor([[3.0, -1.0, 0.5, 0.0]]).repeat(8, 1)
    spread = constant + torch.tensor([1.0, -1.0] * 4)[:, None]
    latents = Latents(constant, spread, spread, spread)
    norms = GradientNorms(torch.tensor(4.0), torch.tensor(1.0))
    with Telemetry("run", endpoint=None, record=tmp_path, strict=True) as telemetry:
        losses = Losses(*(torch.tensor(1.0) for _ in Losses._fields))
        report_step(telemetry, 1, losses, latents, lr=0.1, gradient_norms=norms, scale=torch.tensor(20.0))
    [scalars] = [said.message for said in read_said(tmp_path) if isinstance(said.message, Scalars)]
    assert set(scalars.values) == set(expected.EACH_LOG_INTERVAL)
    assert scalars.values["embeddings/text/std"] > 1.0
    assert scalars.values["embeddings/text/dimension_std"] == 0.0
    assert scalars.values["embeddings/image/dimension_std"] == pytest.approx(1.0)
    assert scalars.values["optimization/temperature"] == pytest.approx(0.05)
    assert (scalars.values["optimization/grad_norm"], scalars.values["optimization/grad_norm_clipped"]) == (4.0, 1.0)


KNOWN = (*expected.EACH_LOG_INTERVAL, *expected.EACH_EPOCH)


def test_categories_are_those_of_the_page() -> None:
    assert tuple(custom_layout()) == expected.LAYOUT


def test_every_pattern_means_exactly_one_tag() -> None:
    """TensorBoard matches prefixes: an open end would draw loss/train/total_something too."""
    for charts in custom_layout().values():
        for pattern in (pattern for chart in charts.values() for pattern in chart.tags):
            assert pattern.startswith("^")
            assert pattern.endswith("$")
            assert len([tag for tag in KNOWN if re.match(pattern, tag)]) == 1


def shown_by(category: str) -> set[str]:
    patterns = [pattern for chart in custom_layout()[category].values() for pattern in chart.tags]
    return {tag for tag in KNOWN if any(re.match(pattern, tag) for pattern in patterns)}


def test_nothing_is_left_out() -> None:
    losses = {tag for tag in KNOWN if tag.startswith("loss/")}
    assert shown_by("Training Progress") == losses - {"loss/train/epoch_std"}
    assert shown_by("Embeddings") == {tag for tag in KNOWN if tag.startswith("embeddings/")}
    assert shown_by("Optimization") == {tag for tag in KNOWN if tag.startswith("optimization/")}
    assert shown_by("Alignment") == {tag for tag in KNOWN if tag.startswith("alignment/")}


def test_train_and_validation_share_a_chart() -> None:
    tags = custom_layout()["Training Progress"]["text image"].tags
    assert tags == ["^loss/train/text_image$", "^loss/val/text_image$"]


def summary(**settings: Any) -> TrainingSummary:
    recalls = {f"{name}/recall_at_1": 0.5 for name in expected.DIRECTIONS} | {"text_to_image/recall_at_1": 0.75}
    return TrainingSummary(
        run="flickr8k/now",
        epochs=10,
        global_step=160,
        best_validation_loss=2.0341,
        recall_at_1=0.542,
        recalls=recalls,
        diagonal_similarity=0.648,
        mean_similarity=0.012,
        chance=1 / 64,
        checkpoint_dir=Path("checkpoints/flickr8k/now"),
        step_cost_us_p50=14.4,
        step_cost_us_p99=8058.6,
        seconds=61.2,
        **settings,
    )


def test_summary_says_what_one_wants_to_know() -> None:
    text = "\n".join(summary().lines())
    for part in (
        "flickr8k/now",
        "10 epochs, 160 steps, 61 s",
        "best validation loss  2.034",
        "Recall@1              54.2%, chance is 1.6% (text to image 75%, text to audio 50%",
        "0.65 of matching pairs, 0.01 of all combinations",
        "checkpoints/flickr8k/now",
        "14 us a logged step (p50), 8.1 ms (p99: some steps also log",
    ):
        assert part in text


FINDING = Finding("loss-spike", "warn", "loss\x1b", "open", 40, 44, 5, 3.2, {"value": 6.4}, "Look at the batches.")


@pytest.mark.parametrize(
    ("findings", "count"),
    [
        (None, "nobody watched the run: there was no logger"),
        ((), 'none open; the card "findings" in TensorBoard says what was not checked'),
        ((replace(FINDING, state="cleared"),), "none open, 1 cleared; "),
        ((FINDING, replace(FINDING, tag="a", state="cleared")), "1 open, 1 cleared; "),
    ],
)
def test_summary_counts_the_findings_and_says_when_nobody_looked(
    findings: tuple[Finding, ...] | None, count: str
) -> None:
    [line] = [line for line in summary(findings=findings).lines() if line.startswith("findings ")]
    assert line.startswith(f"findings              {count}")


def test_summary_has_a_line_for_each_open_finding_and_not_too_many() -> None:
    lines = summary(findings=(FINDING, *(replace(FINDING, tag=str(number)) for number in range(20)))).lines()
    shown = [line.strip() for line in lines if "loss-spike" in line]
    assert shown[0] == "warn: loss-spike of loss\\x1b, steps 40 to 44 (value 6.4)"
    assert len(shown) == FINDINGS_SHOWN_MAX
