"""The comparison of event files finds what differs."""

from pathlib import Path

import pytest
from frameworks.compare import Events, assert_same_events, events_of
from torch.utils.tensorboard import SummaryWriter


def logged(folder: Path, *, tag: str = "loss", step: int = 1, value: float = 0.5, text: str = "a") -> Events:
    """Log a number and a text with torch's writer, and return the events."""
    with SummaryWriter(folder) as writer:
        writer.add_scalar(tag, value, step)
        writer.add_text("note", text, 1)
    return events_of(folder)


@pytest.mark.parametrize("different", [{"tag": "other"}, {"step": 2}, {"value": 0.50001}, {"text": "b"}], ids=str)
def test_another_tag_step_value_or_text_is_found(different: dict[str, str | float], tmp_path: Path) -> None:
    stock = logged(tmp_path / "stock")
    assert_same_events(logged(tmp_path / "same"), stock)
    with pytest.raises(AssertionError, match=r"loss|note"):
        assert_same_events(logged(tmp_path / "different", **different), stock)


def test_a_curve_of_one_alone_is_found(tmp_path: Path) -> None:
    stock = logged(tmp_path / "stock")
    more = logged(tmp_path / "more") | logged(tmp_path / "more", tag="other")
    with pytest.raises(AssertionError, match=r"not of the stock logger: .*other"):
        assert_same_events(more, stock)
    with pytest.raises(AssertionError, match=r"missing: .*other"):
        assert_same_events(stock, more)


def test_durations_may_differ(tmp_path: Path) -> None:
    ours, stock = (logged(tmp_path / f"{value}", tag="time/fps", value=value) for value in (1.0, 2.0))
    assert_same_events(ours, stock)
