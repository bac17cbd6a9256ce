"""Names that people give runs: each becomes a folder that TensorBoard shows, and different names stay different."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import RUN_COMPONENT_MAX_BYTES, RUN_DEPTH_MAX, RUN_MAX_BYTES
from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.protocol.run_names import shown_run, unescape_run

AS_THEY_ARE = [
    *(
        "demo",
        "team/first-try",
        "2026-01-01 10:00:00",
        "lr_0.001_" * 15,
        "a b",
        "a  b",
        "🦊",
        "überlauf",
        "日本語/実験",
    ),
    *(
        'a*b?c"d<e>f|g',
        "it's",
        "$HOME",
        "`x`",
        "a;b",
        "a=b,c=[1]",
        "a@b!",
        "a^b",
        "(v1.2)",
        "-rf",
        "~",
        "~root/x",
        "a~",
    ),
    *("a~2", "a~2b", "a~G0", "attempt", "rank-", "stream-of-thought", "my-projector", "x" * 255, "/".join("abcdefghi")),
]


@pytest.mark.parametrize("name", [name for name in AS_THEY_ARE if name != "~"])
def test_a_name_that_tensorboard_shows_stays_and_says_nothing(name: str) -> None:
    assert shown_run(name) == (name, ())
    assert unescape_run(name) == name


ESCAPED = {
    "baseline+aug": "baseline~2Baug",
    "50%": "50~25",
    "a#1&2": "a~231~262",
    "C:\\runs\\x": "C:~5Cruns~5Cx",
    "a\nb": "a~0Ab",
    "a\x7f": "a~7F",
    "\x85": "~C2~85",
    "a\u202eb": "a~E2~80~AEb",
    "a\ud800": "a~ED~A0~80",
    " a ": "~20a~20",
    "  ": "~20~20",
    "a/ /b": "a/~20/b",
    "a\u3000": "a~E3~80~80",
    ".hidden": "~2Ehidden",
    "...": "~2E..",
    "a~2Bb": "a~7E2Bb",
    "~~41": "~~7E41",
    "rank-3": "~72ank-3",
    "a/attempt-0": "a/~61ttempt-0",
    "projector": "~70rojector",
    "projector_config.pbtxt": "~70rojector_config.pbtxt",
    "events.out.tfevents.1": "events.out.~74fevents.1",
    f"stream-0000-0000-{'0f' * 16}": f"~73tream-0000-0000-{'0f' * 16}",
    "/".join("a" * 33): "/".join("a" * 31) + "/a~2Fa",
}


@pytest.mark.parametrize(("name", "run"), ESCAPED.items())
def test_what_tensorboard_or_the_logger_cannot_take_is_escaped_and_said(name: str, run: str) -> None:
    found = shown_run(name)
    assert found.run == run
    assert [change for change in found.changes if "written as ~XX" in change] == list(found.changes) != []
    assert unescape_run(run) == name


@pytest.mark.parametrize(
    ("name", "run"),
    [
        *(("./x", "x"), ("x/", "x"), ("x//", "x"), ("a//b", "a/b"), ("a/./b", "a/b"), ("./a/.", "a")),
        *(("a/../b", "b"), ("a/b/..", "a")),
    ],
)
def test_another_spelling_of_a_folder_is_that_folder(name: str, run: str) -> None:
    assert shown_run(name) == (run, ())


@pytest.mark.parametrize(
    ("name", "run"),
    [
        *(("/abs/path/x", "abs/path/x"), ("//x", "x"), ("../x", "x"), ("../../x", "x"), ("a/../../x", "x")),
        *(("~/x", "x"), ("/..", None), ("/etc/passwd", "etc/passwd")),
    ],
)
def test_a_path_that_leads_out_loses_what_leads_out_and_says_so(name: str, run: str | None) -> None:
    if run is None:
        with pytest.raises(Malformed):
            shown_run(name)
    else:
        assert shown_run(name) == (run, ("a run stays below the log directory",))


@pytest.mark.parametrize("name", ["", "/", ".", "..", "a/..", "./", "~", "~/"])
def test_a_name_of_no_folder_is_refused(name: str) -> None:
    with pytest.raises(Malformed, match="names no folder; expected something like 'team/first-try'"):
        shown_run(name)


@pytest.mark.parametrize(
    "name", ["x" * 256, "é" * 200, "🦊" * 100, "/".join(["y" * 250] * 6), "/".join("a" * 600), "#" * 300, "ab/" * 400]
)
def test_a_long_name_is_cut_with_a_checksum_and_says_so(name: str) -> None:
    first, second = shown_run(name), shown_run(f"{name}z")
    assert first.run != second.run, "names that differ behind the cut stay different"
    assert "a name that is too long is cut and ends with a checksum" in first.changes
    assert re.search(r"-[0-9a-f]{8}(/|\Z)", first.run)


def test_a_path_that_is_cut_near_the_end_of_a_component_keeps_the_limit_of_a_component() -> None:
    for last in range(RUN_COMPONENT_MAX_BYTES - 20, RUN_COMPONENT_MAX_BYTES + 1):
        shown_run("/".join(["x" * 255, "x" * 255, "x" * 255, "x" * last, "y" * 200]))


@given(
    st.text(st.characters(), max_size=40) | st.text("/.~ #\\A2a\n", max_size=40) | st.text(min_size=200, max_size=900)
)
def test_whatever_a_user_types_is_a_run_that_the_logger_takes(name: str) -> None:
    try:
        run, _ = shown_run(name)
    except Malformed:
        assert set(name) <= set("/.~") or ".." in name.split("/") or name.strip("/") in ("", "~")
        return
    assert check_run(run) == run
    assert len(run.encode()) <= RUN_MAX_BYTES
    assert run.count("/") < RUN_DEPTH_MAX


COMPONENT = st.text(st.characters(), min_size=1, max_size=12) | st.text("~2B#t fevns/", min_size=1, max_size=12)


@given(st.lists(COMPONENT.map(lambda text: text.replace("/", "")), min_size=1, max_size=5))
def test_the_inverse_gives_the_name(components: list[str]) -> None:
    """And therefore different names have different runs."""
    plain = [component for component in components if component not in ("", ".", "..")]
    if plain and plain[0] != "~":
        name = "/".join(plain)
        assert unescape_run(shown_run(name).run) == name


def test_an_escape_of_no_text_stays() -> None:
    assert unescape_run("a~FFb~C3") == "a~FFb~C3"
