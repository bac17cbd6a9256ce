"""What hooks are told, and when: each opening and clearing once."""

import json
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.machine.waiting import wait_until
from support.records.golden import FINDING

from tensorboard_sidecar.logger_service import limits
from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.hooks import hooks as hooks_module
from tensorboard_sidecar.logger_service.hooks.hook import Hook
from tensorboard_sidecar.logger_service.hooks.hooks import Hooks, body_of, make_hooks
from tensorboard_sidecar.logger_service.hooks.queue import HookLimits
from tensorboard_sidecar.protocol.stream import Stream

STREAM = Stream("team/demo", 1, 2, bytes(range(16)))
CLEARED = replace(FINDING, state="cleared")


class Noted:
    """Hooks with one hook that is not started: ``states`` are those that wait, by rule and tag."""

    def __init__(self) -> None:
        self.hook = Hook("--on_finding", lambda _body, _stopped: None, HookLimits())
        self.hooks = Hooks({"command": self.hook})

    def states(self) -> dict[str, str]:
        waiting = self.hook._queue._waiting.values()
        told = [json.loads(one.letter.body) for one in waiting]
        self.hook._queue._waiting = {}
        return {f"{one['rule']} {one['tag']}".strip(): one["state"] for one in told}


def test_a_finding_is_json_with_its_run_and_a_line_for_people() -> None:
    body = body_of(STREAM, FINDING)
    assert body.endswith(b"\n")
    assert json.loads(body) == {
        "run": "team/demo",
        "rank": 1,
        "attempt": 2,
        "stream": "000102030405060708090a0b0c0d0e0f",
        "rule": "loss-spike",
        "severity": "warn",
        "tag": "loss/train",
        "state": "open",
        "first_step": 400,
        "last_step": 440,
        "count": 5,
        "peak": 3.25,
        "evidence": {"value": 6.5, "median": 2.0},
        "advice": "Look at the batches.",
        "text": "team/demo: warn: loss-spike of loss/train, steps 400 to 440 (value 6.5, median 2)",
    }


def test_a_number_that_json_does_not_have_is_null() -> None:
    told = json.loads(body_of(STREAM, replace(FINDING, peak=float("inf"), evidence={"value": float("nan")})))
    assert (told["peak"], told["evidence"]) == (None, {"value": None})


def test_hooks_are_told_each_opening_and_clearing_once() -> None:
    noted = Noted()
    noted.hooks.take(STREAM, FINDING)
    assert noted.states() == {"loss-spike loss/train": "open"}
    noted.hooks.take(STREAM, replace(FINDING, count=99))
    assert noted.states() == {}
    noted.hooks.take(STREAM, CLEARED)
    noted.hooks.take(STREAM, CLEARED)
    assert noted.states() == {"loss-spike loss/train": "cleared"}
    noted.hooks.take(STREAM, FINDING)
    assert noted.states() == {"loss-spike loss/train": "open"}


def test_a_clearing_without_a_known_opening_is_not_told() -> None:
    """After a restart the projection tells old findings again, and the cleared ones among them are no news."""
    noted = Noted()
    noted.hooks.take(STREAM, CLEARED)
    assert noted.states() == {}


def test_an_error_that_clears_before_it_is_told_is_told() -> None:
    noted = Noted()
    noted.hooks.take(STREAM, replace(CLEARED, severity="error"))
    noted.hooks.take(STREAM, replace(CLEARED, severity="error"))
    assert noted.states() == {"loss-spike loss/train": "cleared"}


def test_the_same_rule_of_two_streams_is_two_findings() -> None:
    noted = Noted()
    noted.hooks.take(STREAM, FINDING)
    noted.hooks.take(Stream("team/demo"), FINDING)
    assert len(noted.hook._queue) == 2


def test_what_was_told_is_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks_module, "FINDINGS_REMEMBERED_MAX", 3)
    noted = Noted()
    for number in range(10):
        noted.hooks.take(STREAM, replace(FINDING, tag=str(number)))
    assert len(noted.hooks._states) == 3
    assert limits.FINDINGS_REMEMBERED_MAX > 3


def test_without_hooks_nothing_is_kept() -> None:
    hooks = make_hooks(None, None)
    hooks.start()
    hooks.take(STREAM, FINDING)
    assert (hooks.counts(), hooks._states) == ({}, {})
    hooks.close()


def test_a_command_is_told_and_counted(tmp_path: Path) -> None:
    program = tmp_path / "hook.py"
    program.write_text(f"import sys; open({str(tmp_path / 'told')!r}, 'a').write(sys.stdin.read())")
    hooks = make_hooks(f"'{sys.executable}' -I -S '{program}'", None)
    hooks.start()
    hooks.take(STREAM, FINDING)
    wait_until(lambda: hooks.counts()["command"].delivered == 1)
    hooks.take(STREAM, CLEARED)
    hooks.close()
    told = [json.loads(line)["state"] for line in (tmp_path / "told").read_text().splitlines()]
    assert told[0] == "open"
    assert told == ["open", "cleared"][: len(told)]


@pytest.mark.parametrize(("command", "url"), [("no-such-program", None), (None, "file:///etc/passwd")])
def test_a_hook_that_cannot_be_is_refused_at_the_start(command: str | None, url: str | None) -> None:
    with pytest.raises(StartupError, match="--on_finding"):
        make_hooks(command, url)


def test_a_failed_command_is_not_called_again_and_a_failed_request_is() -> None:
    """A command may have done half of its work."""
    hooks = make_hooks("true", "http://127.0.0.1:1/")._hooks
    assert hooks["command"]._queue._bounds.attempts_max == 1
    assert hooks["url"]._queue._bounds.attempts_max == limits.HOOK_ATTEMPTS_MAX
