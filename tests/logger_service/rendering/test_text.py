import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.rendering import theme
from tensorboard_sidecar.logger_service.rendering.text import (
    CHARACTERS_MAX,
    ELLIPSIS,
    STAND_IN,
    coverage,
    fit,
    line_height,
    presentable,
    text_width,
    wrap,
)

any_text = st.text(max_size=60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two words", "two words"),
        (" tabs\tand\r\nlines\u2028 ", "tabs and lines"),
        ("Привет, שלום, مرحبا, Ελλάδα", "Привет, שלום, مرحبا, Ελλάδα"),
        ("日本", STAND_IN * 2),
        ("e\u0301\u200b\u202e\x00", "é"),
        ("\ud800 lone", "lone"),
        ("\U0001f469\u200d\U0001f467", STAND_IN * 2),
        ("$\\frac{1}{2", "$\\frac{1}{2"),
        ("", ""),
    ],
)
def test_text_becomes_one_line_that_the_face_can_draw(text: str, shown: str) -> None:
    assert presentable(text) == shown


@given(text=any_text)
def test_any_text_is_drawn_without_a_warning(text: str) -> None:
    """Matplotlib warns of a missing glyph, and warnings are errors here; a ``$`` would be parsed and fail."""
    drawn = coverage(presentable(text), theme.NOTE)
    assert drawn.shape[0] == line_height(theme.NOTE)


def test_long_text_is_cut_before_it_costs_time() -> None:
    shown = presentable("x" * 100_000)
    assert len(shown) == CHARACTERS_MAX
    assert shown.endswith(ELLIPSIS)


@given(text=any_text, width=st.integers(40, 300), keep_end=st.booleans())
def test_fitted_text_is_no_wider_than_asked(text: str, width: int, keep_end: bool) -> None:
    shown = presentable(text)
    fitted = fit(shown, width, theme.NOTE, keep_end=keep_end)
    assert text_width(fitted, theme.NOTE) <= width
    assert fitted == shown or ELLIPSIS in fitted


def test_text_is_cut_at_the_end_or_at_the_start() -> None:
    assert fit("abcdefghij" * 5, 80, theme.NOTE).startswith("abcdef")
    assert fit("abcdefghij" * 5, 80, theme.NOTE, keep_end=True).endswith("efghij")


@given(text=any_text)
def test_wrapped_lines_are_few_and_no_wider_than_asked(text: str) -> None:
    lines = wrap(presentable(text), 90, theme.CAPTION, 3)
    assert len(lines) <= 3
    assert all(0 < text_width(line, theme.CAPTION) <= 90 for line in lines)


def test_wrapping_keeps_every_character_that_fits() -> None:
    text = "a small red circle left of a big blue square"
    assert " ".join(wrap(text, 120, theme.CAPTION, 9)) == text
    word = "abcdefghijklmnopqrstuvwxyz" * 2
    assert "".join(wrap(word, 120, theme.CAPTION, 9)) == word


def test_lines_that_do_not_fit_end_in_an_ellipsis() -> None:
    lines = wrap("word " * 100, 90, theme.CAPTION, 3)
    assert len(lines) == 3
    assert lines[-1].endswith(ELLIPSIS)


def test_long_text_is_wrapped_and_cut_without_drawing_all_its_words() -> None:
    """Drawing takes the time: a millisecond for each text."""
    text = presentable(" ".join(f"word{number}" for number in range(100)))
    coverage.cache_clear()
    lines = wrap(text, 190, theme.CAPTION, 3)
    fit(text, 190, theme.CAPTION)
    fit(text, 190, theme.CAPTION, keep_end=True)
    assert len(lines) == 3
    assert coverage.cache_info().misses <= 12


def test_kept_coverage_equals_a_new_one_and_cannot_be_written_to() -> None:
    kept = coverage("step 1", theme.STEP)
    coverage.cache_clear()
    np.testing.assert_array_equal(coverage("step 1", theme.STEP), kept)
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 1
