"""The command on real files of this program: exit codes, what is printed, and what is said of files that are none."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.records.foreign_files import curve, write_events
from support.records.recordings import Said, make_stream, write_recording

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.messages import RunEnd, Scalars

HEALTHY = [1.0 + 1.0 / (step + 1) for step in range(400)]
SPIKING = [*HEALTHY[:-10], *[9.0] * 10]
BROKEN = [*HEALTHY[:-10], *[float("nan")] * 10]


def said(losses: list[float]) -> list[Said]:
    return [
        *(Said(step, Scalars({"train/loss": loss})) for step, loss in enumerate(losses)),
        Said(len(losses), RunEnd("completed")),
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def findings(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, set[tuple[Any, ...]]]:
    code, out, _ = run(capsys, *paths, "--json")
    fields = ("run", "rule", "severity", "tag", "state")
    return code, {tuple(one[field] for field in fields) for one in json.loads(out)["findings"]}


@pytest.mark.parametrize("program", ["recordings", "event files", "another program"])
def test_the_exit_code_tells_what_is_open(program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "healthy": (0, set()),
        "spiking": (5, {("demo", "loss-spike", "warn", "train/loss", "open")}),
        "broken": (4, {("demo", "non-finite-scalar", "error", "train/loss", "open")}),
    }
    for name, losses in (("healthy", HEALTHY), ("spiking", SPIKING), ("broken", BROKEN)):
        place = tmp_path / name
        if program == "another program":
            write_events(place / "demo", curve("train/loss", losses))
        else:
            write_recording(place, said(losses))
            if program == "event files":
                replay([place], tmp_path / "runs" / name)
                place = tmp_path / "runs" / name
        assert findings(capsys, place) == expected[name]
    assert findings(capsys, tmp_path / "healthy", tmp_path / "spiking", tmp_path / "broken")[0] == 4


def test_a_run_resumed_after_a_spike_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_recording(tmp_path, said(SPIKING), make_stream(stream_id=bytes(16)))
    write_recording(tmp_path, said(HEALTHY), make_stream(attempt=1, stream_id=bytes([1]) * 16))
    assert findings(capsys, tmp_path) == (0, {("demo", "loss-spike", "warn", "train/loss", "cleared")})


def test_the_last_line_is_the_summary_and_nothing_is_coloured_in_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(tmp_path, said(SPIKING))
    code, out, err = run(capsys, tmp_path)
    assert (code, err) == (5, "")
    assert "\x1b" not in out
    assert out.splitlines()[-1].endswith("0 errors and 1 warning open, 0 cleared")
    assert "what to do\n  loss-spike: " in out
    assert "not checked\n" in out


def test_rubbish_is_said_and_the_rest_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_events(tmp_path / "good", curve("train/loss", SPIKING))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "events.out.tfevents.1").write_bytes(b"rubbish, and more of it")
    (tmp_path / "worse").mkdir()
    (tmp_path / "worse" / f"{1:020d}.segment").write_bytes(b"rubbish")
    code, out, _ = run(capsys, tmp_path)
    assert code == 5
    assert "events.out.tfevents.1: byte 0: bad head checksum (bad)" in " ".join(out.split())
    assert "is not readable" in " ".join(out.split())
    unread = [one for one in json.loads(run(capsys, tmp_path, "--json")[1])["not_checked"] if one["rule"] == "*"]
    assert {one["run"] for one in unread} == {"bad", "worse"}


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_where_nothing_can_be_judged_it_is_said_and_exit_code_2(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"rubbish, and more of it")
    code, out, err = run(capsys, tmp_path, *flags)
    assert (code, err) == (2, f"error: nothing can be judged at or below {tmp_path}\n")
    assert "bad head checksum" in out


def test_lines_about_one_recording_are_bounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_events(tmp_path, curve("train/loss", HEALTHY))
    data = path.read_bytes()
    for place in range(0, len(data), 200):  # the values of some hundred events
        found = data.find(b"loss", place)
        data = data[:found] + b"lost" + data[found + 4 :] if found > 0 else data
    path.write_bytes(data)
    notes = [
        one["reason"] for one in json.loads(run(capsys, tmp_path, "--json")[1])["not_checked"] if one["rule"] == "*"
    ]
    assert len(notes) == 11
    assert notes[-1].endswith("more places are not readable")


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_path_without_runs_is_one_line_and_exit_code_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    code, out, err = run(capsys, tmp_path / name)
    assert (code, out) == (2, "")
    assert err == f"error: neither recordings nor event files at or below {tmp_path / name}\n"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [([], "give a PATH"), (["--live", "runs"], "give it no PATH"), (["--live", "--json"], "no --json")],
)
def test_a_call_that_means_nothing_is_one_line_and_exit_code_2(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert reason in err
