"""Tells trainers and hooks what is wrong with runs; pure: no I/O, time is passed in.

Findings are never in the way of acknowledgements: a stream is told at most one message in TELL_INTERVAL_SECONDS, and
what cannot be sent waits. What a trainer was told before its connection broke may be lost, and a trainer that starts
again knows nothing: a new peer of a stream is told everything.

Hooks are told of streams that a trainer has opened since the start of the logger. A logger with a new log directory
projects old recordings too, and their findings are no news.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tensorboard_sidecar.logger_service.intake.open_streams import Dispatcher
from tensorboard_sidecar.logger_service.limits import FINDINGS_REMEMBERED_MAX
from tensorboard_sidecar.protocol.finding import Finding, by_gravity
from tensorboard_sidecar.protocol.limits import FINDINGS_KNOWN_MAX
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Findings, findings_that_fit

TELL_INTERVAL_SECONDS: Final = 1.0
# All streams are looked at this often, and not in each turn of a busy logger.
_LOOK_INTERVAL_SECONDS: Final = 0.1
_Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Told:
    """The findings of a stream by rule and tag; those that ``peer``, and those that hooks have not been told."""

    known: dict[_Key, Finding] = field(default_factory=dict)
    waiting: dict[_Key, None] = field(default_factory=dict)
    news: dict[_Key, None] = field(default_factory=dict)
    peer: bytes = b""
    tell_at_seconds: float = float("-inf")


class FindingsDelivery:
    """Tells the peers of a dispatcher the findings of their streams, and counts them; ``tell_hooks`` gets them too.

    Remembers FINDINGS_KNOWN_MAX findings of a stream, and ``remembered_max`` of all. A new finding of a full stream
    takes the place of a cleared one, and is left out if there is none. LRU: beyond ``remembered_max``, forget the
    stream without a change for longest.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        tell_hooks: Callable[[Stream, Finding], None],
        *,
        remembered_max: int = FINDINGS_REMEMBERED_MAX,
    ) -> None:
        self._dispatcher, self._tell_hooks, self._remembered_max = dispatcher, tell_hooks, remembered_max
        self._remembered = 0
        self._told: OrderedDict[bytes, _Told] = OrderedDict()
        self._look_at_seconds = float("-inf")

    def __len__(self) -> int:
        return self._remembered

    def take(self, stream_id: bytes, finding: Finding) -> None:
        """Take the newest state of a finding of a stream."""
        told = self._told.setdefault(stream_id, _Told())
        self._told.move_to_end(stream_id)
        key = finding.rule, finding.tag
        if key not in told.known:
            if len(told.known) >= FINDINGS_KNOWN_MAX and not self._forget_cleared(told):
                return
            self._remembered += 1
        elif told.known[key] == finding:
            return
        told.known[key] = finding
        told.waiting[key] = told.news[key] = None
        while self._remembered > self._remembered_max and len(self._told) > 1:
            _, forgotten = self._told.popitem(last=False)
            self._remembered -= len(forgotten.known)

    def step(self, now_seconds: float) -> None:
        """Tell hooks the news, and the trainers that are connected what they do not know."""
        if now_seconds < self._look_at_seconds:
            return
        self._look_at_seconds = now_seconds + _LOOK_INTERVAL_SECONDS
        streams = self._dispatcher.streams
        for stream_id, told in self._told.items():
            if told.news and (stream := streams.stream_with_id(stream_id)) is not None:
                for key in told.news:
                    self._tell_hooks(stream, told.known[key])
                told.news.clear()
            peer = streams.peer_for_findings(stream_id)
            if peer is None:
                continue
            if peer != told.peer:
                told.peer, told.tell_at_seconds = peer, now_seconds
                told.waiting = dict.fromkeys(sorted(told.known, key=lambda key: by_gravity(told.known[key])))
            if told.waiting and now_seconds >= told.tell_at_seconds:
                self._tell(told)
                told.tell_at_seconds = now_seconds + TELL_INTERVAL_SECONDS

    def _tell(self, told: _Told) -> None:
        some = list(findings_that_fit(told.known[key] for key in told.waiting))
        if self._dispatcher.replies.send(told.peer, Findings(some)):
            self._dispatcher.counts.findings += len(some)
            for finding in some:
                del told.waiting[finding.rule, finding.tag]

    def _forget_cleared(self, told: _Told) -> bool:
        cleared = next((key for key, known in told.known.items() if known.state == "cleared"), None)
        if cleared is None:
            return False
        del told.known[cleared]
        told.waiting.pop(cleared, None)
        told.news.pop(cleared, None)
        self._remembered -= 1
        return True
