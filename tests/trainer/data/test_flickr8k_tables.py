import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.flickr8k import (
    CaptionRow,
    MalformedLineError,
    SpokenRow,
    checked_caption,
    parse_csv,
    parse_name,
    parse_spoken,
    parse_token,
    rows,
)
from tensorboard_sidecar.trainer.data.limits import CAPTION_MAX_CHARS, LINE_MAX_BYTES, TEXT_FILE_MAX_BYTES
from tensorboard_sidecar.trainer.data.report import DataError, Tally

AnyRow = CaptionRow | SpokenRow | tuple[str, str] | str
PARSERS: tuple[Callable[[str], AnyRow], ...] = (parse_token, parse_csv, parse_spoken, parse_name)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.jpg#0\tA dog .", CaptionRow("a.jpg", 0, "A dog .")),
        ("a#b.jpg#4\t  A   dog\t.", CaptionRow("a#b.jpg", 4, "A dog .")),
        ("狗.jpg#1\t一只狗在跑", CaptionRow("狗.jpg", 1, "一只狗在跑")),
        ("a.jpg.1#0\tكلب يجري 🐕", CaptionRow("a.jpg.1", 0, "كلب يجري 🐕")),
    ],
)
def test_token_lines_are_read(line: str, expected: CaptionRow) -> None:
    assert parse_token(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a.jpg,A dog .", ("a.jpg", "A dog .")),
        ('a.jpg,"A dog, a ""big"" one ."', ("a.jpg", 'A dog, a "big" one .')),
        ("a.jpg,A dog, a cat", ("a.jpg", "A dog, a cat")),
        ('a.jpg,"never closed', ("a.jpg", "")),
        ("a.jpg,", ("a.jpg", "")),
    ],
)
def test_csv_lines_are_read(line: str, expected: tuple[str, str]) -> None:
    assert parse_csv(line) == expected


def test_a_line_of_spoken_captions_is_read() -> None:
    assert parse_spoken("a_0.wav a.jpg #0") == SpokenRow("a_0.wav", "a.jpg", 0)


@pytest.mark.parametrize(
    "line",
    [
        "a.jpg#0 no tab",
        "a.jpg\tno index",
        "a.jpg#\tempty index",
        "a.jpg#-1\tnegative",
        "a.jpg#\u0661\tnot an ASCII digit",
        "a.jpg#100\tindex beyond the limit",
        f"a.jpg#{'9' * 5000}\tlong index",
        "a.jpg#0\t",
        "a.jpg#0\t   ",
        f"a.jpg#0\t{'x' * (CAPTION_MAX_CHARS + 1)}",
        "a.jpg#0\tNUL \x00",
        "a.jpg#0\tnot UTF-8 \udcff",
        "../a.jpg#0\tclimbs",
        "/etc/passwd#0\tabsolute",
        "b/a.jpg#0\tfolder",
        "b\\a.jpg#0\tbackslash",
        "..#0\tparent",
        "#0\tno name",
        "a\x00.jpg#0\tNUL in the name",
        "\udcff.jpg#0\tname not UTF-8",
        f"{'x' * 256}#0\tname too long",
        f"{'狗' * 86}#0\tname of more than 255 bytes",
    ],
)
def test_token_lines_of_another_shape_are_refused(line: str) -> None:
    with pytest.raises(MalformedLineError):
        parse_token(line)


@pytest.mark.parametrize("line", ["a.wav a.jpg", "a.wav a.jpg 0", "a.wav a.jpg #0 more", "../a.wav a.jpg #0"])
def test_lines_of_spoken_captions_of_another_shape_are_refused(line: str) -> None:
    with pytest.raises(MalformedLineError):
        parse_spoken(line)


def test_a_refused_line_is_counted_by_its_number_and_the_others_are_read() -> None:
    file = io.BytesIO(b"\xef\xbb\xbfa.jpg\r\n\r\nb/c.jpg\n\xff.jpg\nd.jpg")
    tally = Tally()
    assert list(rows(file, "list.txt", parse_name, tally)) == ["a.jpg", "d.jpg"]
    (problem,) = tally.problems()
    assert problem.count == 2
    assert problem.examples[0].startswith("line 3 ")
    assert problem.examples[1].startswith("line 4 ")


def test_a_line_beyond_the_limit_is_one_line_and_the_next_is_read() -> None:
    file = io.BytesIO(b"a.jpg#0\t" + b"x" * (3 * LINE_MAX_BYTES) + b"\nb.jpg#0\tA dog\n")
    tally = Tally()
    assert list(rows(file, "token", parse_token, tally)) == [CaptionRow("b.jpg", 0, "A dog")]
    assert tally.problems()[0].count == 1


@pytest.mark.parametrize("size", [LINE_MAX_BYTES - 1, LINE_MAX_BYTES, LINE_MAX_BYTES + 1])
def test_a_line_of_about_the_limit_does_not_swallow_the_next(size: int) -> None:
    file = io.BytesIO(b"x" * size + b"\nb.jpg\n")
    assert list(rows(file, "list", parse_name, Tally())) == ["b.jpg"]


def test_a_file_beyond_the_limit_is_refused() -> None:
    file = io.BytesIO(b"x" * (TEXT_FILE_MAX_BYTES + 1))
    with pytest.raises(DataError, match="larger than"):
        list(rows(file, "captions.txt", parse_csv, Tally()))


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_rubbish_gives_plain_names_or_is_counted(rubbish: bytes) -> None:
    """For any file: no other exception, and no name that leaves its folder."""
    for parse in PARSERS:
        for row in rows(io.BytesIO(rubbish), "rubbish", parse, Tally()):
            for name in _names(row):
                assert name.encode()
                assert not set(name) & {"/", "\\", "\0", "\n"}
                assert name not in {"", ".", ".."}


@given(st.text(max_size=200))
def test_a_caption_that_is_accepted_is_accepted_again(text: str) -> None:
    try:
        caption = checked_caption(text)
    except MalformedLineError:
        return
    assert checked_caption(caption) == caption
    assert caption.encode()


def _names(row: AnyRow) -> list[str]:
    match row:
        case CaptionRow():
            return [row.image_name]
        case SpokenRow():
            return [row.image_name, row.audio_name]
        case (name, _):
            return [name]
        case _:
            return [str(row)]
