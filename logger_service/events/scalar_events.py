"""The short way for scalars, which are nine records in ten: the event is made once a set of tags, then filled in."""

from typing import Final

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.events.values import scalar_value
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.record import Record

# What the events of one stream may take: those of 100 sets of 19 tags, or of one with 2,500; a larger one is not kept.
_KEPT_MAX_BYTES: Final = 2**20
_EVENT_SIZE_BYTES: Final = 2**10
_VALUE_SIZE_BYTES: Final = 2**8
_CHARACTER_SIZE_MAX_BYTES: Final = 4
# An event keeps every text that was ever put into it, so that it is made anew now and then: after 200 KB of them.
_USES_MAX: Final = 4096


class ScalarEvents:
    """Packs the scalars of one stream, byte for byte as ``logger_service.events.to_events.project`` would."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._events: dict[tuple[str, ...], tuple[Event, list[Summary.Value]]] = {}
        self._size_bytes = 0
        self._uses = 0

    def forget(self) -> None:
        """Keep nothing; it is made anew when it is needed."""
        self._events.clear()
        self._size_bytes = self._uses = 0

    def pack(self, message: Scalars, record: Record) -> bytes:
        """Return the serialised event of a record with at least one scalar."""
        event, values = self._event(tuple(message.values))
        event.wall_time = record.wall_time_ns / 1e9
        event.step = record.step
        values[0].node_name = str(EventId(self._stream, record.next_sequence - 1, 0))
        for value, number in zip(values, message.values.values(), strict=True):
            value.simple_value = number
        serialised: bytes = event.SerializeToString()
        return serialised

    def _event(self, tags: tuple[str, ...]) -> tuple[Event, list[Summary.Value]]:
        self._uses += 1
        found = self._events.get(tags)
        if self._uses > _USES_MAX:
            self.forget()
            found = None
        if found is None:
            event = Event(summary=Summary(value=[scalar_value(tag, 0.0) for tag in tags]))
            found = event, list(event.summary.value)
            self._keep(tags, found)
        return found

    def _keep(self, tags: tuple[str, ...], event: tuple[Event, list[Summary.Value]]) -> None:
        texts_bytes = _CHARACTER_SIZE_MAX_BYTES * sum(map(len, tags))
        size_bytes = _EVENT_SIZE_BYTES + _VALUE_SIZE_BYTES * len(tags) + texts_bytes
        if size_bytes > _KEPT_MAX_BYTES:
            return
        if self._size_bytes + size_bytes > _KEPT_MAX_BYTES:
            self.forget()
        self._events[tags] = event
        self._size_bytes += size_bytes
