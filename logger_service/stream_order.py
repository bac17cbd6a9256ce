"""In which order the streams of a run are projected: earlier attempts first, live and replayed."""

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeVar

from logger_service.events.attempt_order import Attempt, in_order
from protocol.stream import Stream

T = TypeVar("T")


def in_stream_order(found: Iterable[tuple[Stream, int, T]]) -> list[T]:
    """Return what was found of streams, each with the time it begins in nanoseconds, in the order of projection.

    What is found twice of one stream, a journal and what an outbox still held, follows each other.
    """
    runs: defaultdict[tuple[str, int], list[tuple[Stream, int, T]]] = defaultdict(list)
    for stream, start_ns, item in found:
        runs[stream.run, stream.rank].append((stream, start_ns, item))
    return [item for run in sorted(runs) for item in _in_order(runs[run])]


def _in_order(found: list[tuple[Stream, int, T]]) -> list[T]:
    if len(found) == 1:
        return [found[0][2]]
    begins: dict[str, Attempt] = {}
    for stream, start_ns, _ in sorted(found, key=lambda one: one[1], reverse=True):
        begins[stream.id.hex()] = Attempt(start_ns / 1e9, stream.attempt, stream.id.hex())
    place = {attempt.stream: place for place, attempt in enumerate(in_order(begins.values()))}
    return [item for *_, item in sorted(found, key=lambda one: (place[one[0].id.hex()], one[1]))]
