"""Characters that reach a terminal, and characters that are escaped."""

from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.printable import printable


def test_what_is_seen_stays_as_it_is() -> None:
    assert printable("ein Hund läuft, 犬が走る, ٣ 🐕") == "ein Hund läuft, 犬が走る, ٣ 🐕"


def test_what_moves_the_cursor_is_escaped() -> None:
    assert printable("a\x1b[2Jb\nc\x00d\u202ee\ud800") == "a\\x1b[2Jb\\nc\\x00d\\u202ee\\ud800"


@given(st.text(st.characters()))
def test_nothing_else_is_left(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()
