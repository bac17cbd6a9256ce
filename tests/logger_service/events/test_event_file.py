from collections.abc import Callable
from pathlib import Path

import pytest
from support.events import event_files, load_events, load_folder
from support.recordings import START_NS, STREAM_ID, make_stream
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from logger_service.events.audit import audit
from logger_service.events.event_file import EventFile, EventFileName
from logger_service.events.identity import EventId
from protocol.stream import Stream

NAME = "events.out.tfevents.1700000000.0000.00010203.0000"


def events(*sequences: int, stream: Stream | None = None) -> list[bytes]:
    stream_id = (stream or make_stream()).id
    names = [str(EventId(stream_id, sequence, 0)) for sequence in sequences]
    return [
        Event(summary=Summary(value=[Summary.Value(tag="a", node_name=name)])).SerializeToString() for name in names
    ]


def append(logdir: Path, *sequences: int, stream: Stream | None = None, start_ns: int = START_NS) -> str:
    """Append by a writer of its own, as after a restart; return the name of the newest file of the run."""
    stream = stream or make_stream()
    file = EventFile(logdir, stream)
    file.append(events(*sequences, stream=stream), start_ns)
    file.close()
    return event_files(logdir / stream.run)[-1].name


def test_a_name_is_read_as_it_was_written() -> None:
    name = EventFileName(1_700_000_000, 2, "00010203", 7)
    assert str(name) == "events.out.tfevents.1700000000.0002.00010203.0007"
    assert EventFileName.parse(str(name)) == name


@pytest.mark.parametrize(
    "name", ["events.out.tfevents.1700000000.host.1.0", f"{NAME}.profile", "x", "events.out.tfevents.1"]
)
def test_names_of_other_programs_are_not_ours(name: str) -> None:
    assert EventFileName.parse(name) is None


def test_a_file_begins_with_its_version(tmp_path: Path) -> None:
    assert append(tmp_path, 1, 2) == NAME
    first, *others = load_events(tmp_path / "demo" / NAME)
    assert (first.file_version, first.wall_time) == ("brain.Event:2", 1_700_000_000.0)
    assert len(others) == 2


def test_nothing_is_made_before_something_is_written(tmp_path: Path) -> None:
    EventFile(tmp_path, make_stream()).close()
    assert not list(tmp_path.iterdir())


def test_a_later_writer_begins_a_later_file_and_leaves_the_first_alone(tmp_path: Path) -> None:
    append(tmp_path, 1)
    before = (tmp_path / "demo" / NAME).read_bytes()
    assert append(tmp_path, 2, start_ns=START_NS + 10**12) == NAME[:-1] + "1"
    assert append(tmp_path, 3) == NAME[:-1] + "2"
    assert (tmp_path / "demo" / NAME).read_bytes() == before


def test_the_last_id_is_read_back(tmp_path: Path) -> None:
    assert EventFile(tmp_path, make_stream()).last_id is None
    append(tmp_path, 1, 2)
    append(tmp_path, 3)
    assert EventFile(tmp_path, make_stream()).last_id == EventId(STREAM_ID, 3, 0)


def test_a_newest_file_without_an_event_does_not_hide_the_one_before(tmp_path: Path) -> None:
    append(tmp_path, 1, 2)
    (tmp_path / "demo" / (NAME[:-1] + "1")).write_bytes(b"torn")
    assert EventFile(tmp_path, make_stream()).last_id == EventId(STREAM_ID, 2, 0)
    assert append(tmp_path, 3) == NAME[:-1] + "2"


def test_a_file_that_was_closed_is_gone_on_with(tmp_path: Path) -> None:
    file = EventFile(tmp_path, make_stream())
    for sequence in (1, 2):
        file.append(events(sequence), START_NS)
        file.close()
    assert [path.name for path in event_files(tmp_path / "demo")] == [NAME]
    assert len(load_folder(tmp_path / "demo")) == 2


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"x")], ids=["deleted", "changed"])
def test_a_file_that_was_deleted_or_changed_is_not_gone_on_with(
    tmp_path: Path, change: Callable[[Path], object], *, closed: bool
) -> None:
    file = EventFile(tmp_path, make_stream())
    file.append(events(1), START_NS)
    if closed:
        file.close()
    change(tmp_path / "demo" / NAME)
    with pytest.raises(FileNotFoundError):
        file.append(events(2), START_NS)
    file.close()


def test_another_stream_is_another_file(tmp_path: Path) -> None:
    other = make_stream(stream_id=b"\xaa" * 16, attempt=1)
    append(tmp_path, 1, 2)
    append(tmp_path, 1, stream=other)
    assert EventFile(tmp_path, make_stream()).last_id == EventId(STREAM_ID, 2, 0)
    assert EventFile(tmp_path, other).last_id == EventId(other.id, 1, 0)


@pytest.mark.parametrize("earlier_seconds", [0, 1, 3600, 10**10])
def test_names_grow_even_if_clocks_go_back(tmp_path: Path, earlier_seconds: int) -> None:
    append(tmp_path, 1)
    other = make_stream(stream_id=b"\xaa" * 16, attempt=1)
    newest = append(tmp_path, 1, stream=other, start_ns=START_NS - earlier_seconds * 10**9)
    assert newest == "events.out.tfevents.1700000001.0001.aaaaaaaa.0000"


def test_names_grow_after_files_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "events.out.tfevents.1700000500.host.1.0").touch()
    assert append(tmp_path, 1) == "events.out.tfevents.1700000501.0000.00010203.0000"


def test_a_stream_that_comes_back_after_another_begins_a_file_that_sorts_last(tmp_path: Path) -> None:
    other = make_stream(stream_id=b"\xaa" * 16, attempt=1)
    append(tmp_path, 1)
    append(tmp_path, 1, stream=other)
    back_ns = START_NS + 60 * 10**9
    assert append(tmp_path, 2, start_ns=back_ns) == "events.out.tfevents.1700000002.0000.00010203.0001"
    assert len(load_folder(tmp_path / "demo")) == 3


def test_what_an_attempt_said_before_the_next_began_goes_beside_it(tmp_path: Path) -> None:
    """Whether it had begun before or not, and after a restart too."""
    later = make_stream(stream_id=b"\xaa" * 16, attempt=1)
    append(tmp_path, 1)
    earlier = EventFile(tmp_path, make_stream())
    earlier.append(events(2), START_NS)
    append(tmp_path, 1, stream=later, start_ns=START_NS + 10 * 10**9)
    earlier.append(events(3), START_NS + 10**9)
    earlier.append(events(4), START_NS + 2 * 10**9)
    earlier.close()
    append(tmp_path, 5, start_ns=START_NS + 3 * 10**9)
    assert [len(load_folder(folder)) for folder in (tmp_path / "demo", tmp_path / "demo" / "attempt-0")] == [3, 3]
    assert audit(tmp_path / "demo").losses == audit(tmp_path / "demo" / "attempt-0").losses == []
    assert EventFile(tmp_path, make_stream()).last_id == EventId(STREAM_ID, 5, 0)
    assert EventFile(tmp_path, later).last_id == EventId(later.id, 1, 0)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    file = EventFile(tmp_path, make_stream())
    (tmp_path / "demo").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "demo" / NAME).symlink_to(victim)
    file.append(events(1), START_NS)
    assert victim.read_bytes() == b"precious"
    assert event_files(tmp_path / "demo")[-1].name == NAME[:-1] + "1"


@pytest.mark.parametrize("wall_time_ns", [-(2**63), 0, 2**63 - 1])
def test_any_time_gives_a_name(tmp_path: Path, wall_time_ns: int) -> None:
    name = EventFileName.parse(append(tmp_path, 1, start_ns=wall_time_ns))
    assert name is not None
    assert 0 <= name.start_seconds < 10**10
