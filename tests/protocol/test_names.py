"""Names that come from outside, as paths and as titles."""

from pathlib import PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.records.strategies import runs

from tensorboard_sidecar.protocol.errors import Malformed, ProtocolError, TooLarge
from tensorboard_sidecar.protocol.limits import (
    FILE_SUFFIX_MAX_BYTES,
    RUN_COMPONENT_MAX_BYTES,
    RUN_DEPTH_MAX,
    RUN_MAX_BYTES,
    STEP_MAX,
    TAG_MAX_CHARACTERS,
)
from tensorboard_sidecar.protocol.names import check_file_suffix, check_folder, check_run, check_step, check_tag


@pytest.mark.parametrize(
    "run",
    [
        *("demo", "team/first-try", "a b", "überlauf", "日本語/実験", "x" * 255, "v1.2_(final)", "/".join("a" * 32)),
        *("2026-01-01 10:00:00", 'a*b?c"d<e>f|g', "baseline~2Baug", "~", "/".join(["x" * 204] * 5)),
        *("attempt", "attempt-two", "rank-", "stream-of-thought", "latest-model", "my-projector", "events"),
        *("hparams", "hparams-sweep", "hparams-0a1b2c3d4e5", "hparams-0A1B2C3D4E5F", "hparams-0a1b2c3d4e5f6"),
    ],
)
def test_ordinary_runs_pass(run: str) -> None:
    assert check_run(run) == run


NO_PATHS = ["", "/", "/etc", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.hidden", " a", "a ", "a/ b", "a\u3000"]
RESERVED = [
    *("rank-1", "a/rank-12", "a/projector/b", "attempt-0", "a/attempt-17/b", "a/projector_config.pbtxt"),
    *("a/events.out.tfevents.9999999999.x", "tfevents", f"a/stream-0000-0000-{'0f' * 16}/key-name"),
    *(f"stream-12345-0000-{'0f' * 16}", "hparams-0a1b2c3d4e5f", "a/hparams-000000000000/b"),
]
FORBIDDEN = "\\&#+%\x00\n\x7f\x85\ud800\u202e\u2066"


@pytest.mark.parametrize("run", [*NO_PATHS, *RESERVED, *(f"a{character}b" for character in FORBIDDEN)])
def test_runs_that_are_no_plain_relative_path_are_malformed(run: str) -> None:
    with pytest.raises(Malformed):
        check_run(run)


@pytest.mark.parametrize("run", RESERVED)
def test_a_reserved_name_is_said_with_its_reason(run: str) -> None:
    with pytest.raises(Malformed, match="the logger itself makes in a run's folder; choose another name"):
        check_run(run)


@pytest.mark.parametrize(
    "run",
    ["x" * (RUN_COMPONENT_MAX_BYTES + 1), "é" * 128, "/".join("a" * (RUN_DEPTH_MAX + 1)), "/".join(["x" * 205] * 5)],
)
def test_long_runs_are_too_large(run: str) -> None:
    with pytest.raises(TooLarge):
        check_run(run)


@pytest.mark.parametrize("folder", [*NO_PATHS, *RESERVED, *(f"a{character}b" for character in FORBIDDEN)])
def test_a_folder_keeps_the_rules_of_a_run(folder: str) -> None:
    assert check_folder("loss_train/a") == "loss_train/a"
    with pytest.raises(Malformed, match="folder "):
        check_folder(folder)
    with pytest.raises(TooLarge, match="folder name"):
        check_folder("x" * (RUN_COMPONENT_MAX_BYTES + 1))


@pytest.mark.parametrize("suffix", ["", ".trial-7", "7", "-é", "x" * FILE_SUFFIX_MAX_BYTES, ".tfevents", ".."])
def test_ordinary_file_suffixes_pass(suffix: str) -> None:
    assert check_file_suffix(suffix) == suffix


@pytest.mark.parametrize("suffix", ["/", "a/../../b", "a\\b", "\n", "\x00", "\ud800", "\u202e"])
def test_a_file_suffix_names_no_folder_and_prints(suffix: str) -> None:
    with pytest.raises(Malformed, match="file suffix"):
        check_file_suffix(suffix)
    with pytest.raises(TooLarge):
        check_file_suffix("é" * (FILE_SUFFIX_MAX_BYTES // 2) + "x")


@given(st.text(max_size=30) | runs)
def test_a_run_that_passes_stays_under_its_folder(run: str) -> None:
    try:
        check_run(run)
    except ProtocolError:
        return
    path = PurePosixPath("/logs", run)
    assert path.parts == ("/", "logs", *run.split("/"))
    assert ".." not in path.parts
    assert len(run.encode()) <= RUN_MAX_BYTES


@pytest.mark.parametrize("tag", ["loss", "loss/train/total", "a b", "ü", "🦊", "x" * TAG_MAX_CHARACTERS, "a\u200db"])
def test_ordinary_tags_pass(tag: str) -> None:
    assert check_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", " ", "\u3000", "a\n", "a\x00b", "\x9f", "\udfff", "\u202dx", "\u2069"])
def test_tags_that_cannot_be_shown_are_malformed(tag: str) -> None:
    with pytest.raises(Malformed):
        check_tag(tag)


@pytest.mark.parametrize("tag", [5, None, b"loss", ["a"]])
def test_a_tag_that_is_no_text_is_named(tag: Any) -> None:
    with pytest.raises(Malformed, match=r"tag .*; expected text"):
        check_tag(tag)


def test_a_long_tag_is_named_by_its_beginning() -> None:
    with pytest.raises(TooLarge, match=r"tag 'x{40}'\.\.\. in characters: 513"):
        check_tag("x" * 513)


def test_a_tag_that_is_wrong_is_wrong_each_time() -> None:
    """Only tags that pass are remembered."""
    for _ in range(3):
        with pytest.raises(Malformed, match="control characters"):
            check_tag("a\nb")
        with pytest.raises(TooLarge):
            check_tag("x" * 513)
        assert check_tag("a") == "a"


@pytest.mark.parametrize("step", [-STEP_MAX, -1, 0, 1, STEP_MAX])
def test_steps_that_tensorboard_shows_pass(step: int) -> None:
    assert check_step(step) == step


@pytest.mark.parametrize("step", [-STEP_MAX - 1, STEP_MAX + 1, 2**63 - 1])
def test_other_steps_are_malformed(step: int) -> None:
    with pytest.raises(Malformed, match=f"step {step}"):
        check_step(step)
