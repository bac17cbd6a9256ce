import math
import os
from pathlib import Path

import pytest
from support.recordings import STREAM_ID

from tensorboard_sidecar.logger_service.events.scalar_events import ScalarEvents
from tensorboard_sidecar.logger_service.events.to_events import project
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.record import Kind, Record


def record(sequence: int, step: int) -> Record:
    return Record(Kind.SCALARS, sequence, step, 1_700_000_000_123_456_789 + sequence, b"")


def test_the_short_way_gives_the_same_bytes_as_the_long_one() -> None:
    short = ScalarEvents(STREAM_ID)
    messages = [
        Scalars({"loss": 0.5, "lr": 1e-3}),
        Scalars({"loss": math.nan, "lr": 1e300}),
        Scalars({"loss": 0.0, "lr": -0.0}),
        Scalars({"lr": 1.0, "loss": 2.0}),
        Scalars({"loss": 7.0}),
    ]
    for sequence, message in enumerate(messages * 2, 1):
        said = record(sequence, 10**sequence - 1)
        assert [short.pack(message, said)] == project(message, said, STREAM_ID).events


def test_a_record_that_stands_for_several_numbers_has_the_id_of_the_last() -> None:
    """As all have, though scalars stand for one: else a projection would not find where it stands."""
    message, said = Scalars({"loss": 0.5}), record(5, 0)._replace(span=10)
    assert [ScalarEvents(STREAM_ID).pack(message, said)] == project(message, said, STREAM_ID).events


@pytest.mark.parametrize(("sets", "tags", "characters"), [(3000, 1, 10), (300, 19, 20), (5, 2000, 60), (2, 2500, 500)])
def test_many_and_large_sets_of_tags_do_not_pile_up(sets: int, tags: int, characters: int) -> None:
    short = ScalarEvents(STREAM_ID)
    for number in range(sets):
        message = Scalars({f"{number} {tag}".ljust(characters, "x"): 1.0 for tag in range(tags)})
        said = record(number + 1, 0)
        assert [short.pack(message, said)] == project(message, said, STREAM_ID).events
    kept = sum(len(event.SerializeToString()) for event, _ in short._events.values())
    assert kept <= 2**20


@pytest.mark.parametrize("tags", [19, 2000])
def test_sets_of_a_usual_size_are_kept(tags: int) -> None:
    short = ScalarEvents(STREAM_ID)
    short.pack(Scalars({f"a usual tag/{tag}": 1.0 for tag in range(tags)}), record(1, 0))
    assert len(short._events) == 1
    short.forget()
    assert not short._events


def test_what_was_written_takes_no_memory() -> None:
    """Of a protobuf message: it keeps what a text field held before."""
    short, message = ScalarEvents(STREAM_ID), Scalars({"loss": 0.5})

    def pack(records: int) -> int:
        for sequence in range(1, records + 1):
            short.pack(message, record(sequence, sequence))
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before_bytes = pack(20_000)
    assert pack(200_000) - before_bytes < 4 * 2**20  # kept, they would be twice as much


def test_an_event_made_anew_gives_the_same_bytes() -> None:
    short, message = ScalarEvents(STREAM_ID), Scalars({"loss": 0.5, "lr": 1.0})
    for sequence in range(1, 10_000):
        said = record(sequence, sequence)
        assert [short.pack(message, said)] == project(message, said, STREAM_ID).events
