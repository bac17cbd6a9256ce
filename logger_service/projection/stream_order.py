"""In which order the streams of a run are projected: earlier attempts first, live and replayed."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from tensorboard_sidecar.logger_service.events.event_paths import Attempt, in_order
from tensorboard_sidecar.protocol.storage.find import Beginning

T = TypeVar("T")


def in_stream_order(found: Iterable[tuple[Beginning, T]]) -> list[T]:
    """Return what was found of streams, run by run, in the order of projection.

    What is found twice of one stream, a journal and what an outbox still held, follows each other.
    """
    runs: defaultdict[tuple[str, int], list[tuple[Beginning, T]]] = defaultdict(list)
    for begin, item in found:
        runs[begin.stream.run, begin.stream.rank].append((begin, item))
    return [item for run in sorted(runs) for item in _in_order(runs[run])]


def _in_order(found: list[tuple[Beginning, T]]) -> list[T]:
    if len(found) == 1:
        return [found[0][1]]
    attempts: dict[bytes, Attempt] = {}
    for (stream, start_ns, seen_ns), _ in found:
        new = Attempt(start_ns / 1e9, stream.attempt, stream.id.hex(), seen_ns / 1e9)
        known = attempts.get(stream.id, new)
        attempts[stream.id] = min(new, known)._replace(seen=min(new.seen, known.seen))
    place = {attempt.stream: place for place, attempt in enumerate(in_order(attempts.values()))}
    found.sort(key=lambda one: (place[one[0].stream.id.hex()], one[0].start_ns))
    return [item for _, item in found]
