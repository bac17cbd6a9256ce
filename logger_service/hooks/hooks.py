"""All hooks of a logger, and what a hook is told: the body of a finding."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import msgspec

from tensorboard_sidecar.logger_service.hooks.command import CommandHook, split_command
from tensorboard_sidecar.logger_service.hooks.hook import Hook
from tensorboard_sidecar.logger_service.hooks.queue import HookCounts, HookLimits, Key, Letter
from tensorboard_sidecar.logger_service.hooks.webhook import WebAddress, WebHook
from tensorboard_sidecar.logger_service.limits import FINDINGS_REMEMBERED_MAX
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.stream import Stream

# Time for the findings that wait when the logger stops, and as much again to cut off a call.
_CLOSE_SECONDS: Final = 3.0


def make_hooks(command: str | None, url: str | None) -> "Hooks":
    """Return the hooks of ``--on_finding`` and ``--on_finding_url``, not started. Raises StartupError."""
    hooks = {}
    if command is not None:
        # A command may have done half of its work: it is called once.
        once = HookLimits(attempts_max=1)
        hooks["command"] = Hook("--on_finding", CommandHook(split_command(command)), once)
    if url is not None:
        hooks["url"] = Hook("--on_finding_url", WebHook(WebAddress.parse(url)), HookLimits())
    return Hooks(hooks)


class Hooks:
    """Tells ``hooks`` each finding that opens or clears, once; by the names that the metrics page has.

    The projection tells findings again after a restart. A finding whose state a hook knows is not told again. A finding
    that clears is told if it was told to be open, or if it is an error: a NaN of a single step opens and clears before
    anybody is told. LRU: FINDINGS_REMEMBERED_MAX findings are remembered. A logger that starts again remembers none: it
    tells open findings, and errors, of running trainers again.
    """

    def __init__(self, hooks: Mapping[str, Hook]) -> None:
        self._hooks = hooks
        self._states: OrderedDict[Key, str] = OrderedDict()

    def start(self) -> None:
        """Start the threads of the hooks."""
        for hook in self._hooks.values():
            hook.start()

    def take(self, stream: Stream, finding: Finding) -> None:
        """Take the newest state of a finding of a stream. Never waits."""
        if not self._hooks:
            return
        key = stream.id, finding.rule, finding.tag
        if finding.state == self._states.get(key, "" if finding.severity == "error" else "cleared"):
            return
        self._states[key] = finding.state
        self._states.move_to_end(key)
        if len(self._states) > FINDINGS_REMEMBERED_MAX:
            self._states.popitem(last=False)
        letter = Letter(key, str(finding), body_of(stream, finding))
        for hook in self._hooks.values():
            hook.add(letter)

    def counts(self) -> dict[str, HookCounts]:
        """Return the counters of each hook."""
        return {name: hook.counts for name, hook in self._hooks.items()}

    def close(self) -> None:
        """Deliver what waits for a few seconds, and end the threads."""
        for hook in self._hooks.values():
            hook.begin_close()
        for hook in self._hooks.values():
            hook.close(_CLOSE_SECONDS)


def body_of(stream: Stream, finding: Finding) -> bytes:
    """Return a finding as JSON: its fields, its run, and ``text``, the line that chat services show.

    A number that is not finite is null.
    """
    names = {"run": stream.run, "rank": stream.rank, "attempt": stream.attempt, "stream": stream.id.hex()}
    text = {"text": f"{stream.run}: {finding}"}
    return msgspec.json.encode(names | msgspec.structs.asdict(finding) | text) + b"\n"
