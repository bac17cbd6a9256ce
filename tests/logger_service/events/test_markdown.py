import markdown as python_markdown
import pytest

from tensorboard_sidecar.logger_service.events import markdown


def render(text: str) -> str:
    """Render as TensorBoard does (tensorboard/plugin_util.py)."""
    html: str = python_markdown.markdown(
        text, extensions=["markdown.extensions.tables", "markdown.extensions.fenced_code"]
    )
    return html


@pytest.mark.parametrize(
    "text", ["__init__", "a|b", "`x`", r"back\slash", "# no head", "[a](b)", "1. x", "*", "!", "{a}", "a-b"]
)
def test_plain_text_is_shown_as_it_is_spelt(text: str) -> None:
    assert render(markdown.plain(text)) == f"<p>{text}</p>"


def test_plain_text_is_one_line() -> None:
    assert markdown.plain(" a\n\tb  c\r\n") == "a b c"


def test_a_table_has_as_many_cells_as_came() -> None:
    html = render(markdown.table(("setting", "value"), [("a|b", "x | y"), ("c", "")]))
    assert html.count("<td>") == 4
    assert "<td>a|b</td>\n<td>x | y</td>" in html


def test_a_table_of_too_many_characters_says_how_many_rows_are_left_out() -> None:
    rows = [(f"setting {number}", "x" * 50) for number in range(100)]
    whole, cut = markdown.table(("setting", "value"), rows), markdown.table(("setting", "value"), rows, 1000)
    assert whole.count("\n") == 101
    assert len(cut) <= 1000
    kept = cut.count("\n") - 2
    assert cut.splitlines()[:-1] == whole.splitlines()[: kept + 2]
    assert f"<td><em>{100 - kept} more</em></td>\n<td></td>" in render(cut)


def test_a_list_is_numbered_from_one() -> None:
    assert render(markdown.numbered(["a circle", "# two"])) == "<ol>\n<li>a circle</li>\n<li># two</li>\n</ol>"
