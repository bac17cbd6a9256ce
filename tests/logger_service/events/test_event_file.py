import os
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
from support.records.events import event_files, id_of, load_events, load_folder
from support.records.recordings import START_NS, STREAM_ID, make_stream
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.logger_service.events import event_file
from tensorboard_sidecar.logger_service.events.audit import audit
from tensorboard_sidecar.logger_service.events.event_file import (
    Attempt,
    EventFile,
    EventFileName,
    in_order,
    inside,
    is_row,
    names_in,
    next_name,
    own_names_in,
    row_name,
    rows_in,
    run_directory,
)
from tensorboard_sidecar.logger_service.events.identity import EventId
from tensorboard_sidecar.logger_service.events.to_events import version_event
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.stream import Stream

NAME = "events.out.tfevents.1700000000.0000.00010203.0000"
PREFIX = "events.out.tfevents."


def events(*sequences: int, stream: Stream | None = None) -> list[bytes]:
    stream_id = (stream or make_stream()).id
    names = [str(EventId(stream_id, sequence, 0)) for sequence in sequences]
    return [
        Event(summary=Summary(value=[Summary.Value(tag="a", node_name=name)])).SerializeToString() for name in names
    ]


def append(
    logdir: Path,
    *sequences: int,
    stream: Stream | None = None,
    start_ns: int = START_NS,
    began_ns: int | None = None,
) -> str:
    """Append by a writer of its own, as after a restart; return the name of the newest file of the run.

    The stream began with these events, or at ``began_ns``.
    """
    stream = stream or make_stream()
    file = EventFile(logdir, stream)
    file.append(events(*sequences, stream=stream), start_ns, start_ns if began_ns is None else began_ns)
    file.close()
    return event_files(logdir / stream.run)[-1].name


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
        file.append(events(sequence), START_NS, START_NS)
        file.close()
    assert [path.name for path in event_files(tmp_path / "demo")] == [NAME]
    assert len(load_folder(tmp_path / "demo")) == 2


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"x")], ids=["deleted", "changed"])
def test_a_file_that_was_deleted_or_changed_is_not_gone_on_with(
    tmp_path: Path, change: Callable[[Path], object], *, closed: bool
) -> None:
    file = EventFile(tmp_path, make_stream())
    file.append(events(1), START_NS, START_NS)
    if closed:
        file.close()
    change(tmp_path / "demo" / NAME)
    with pytest.raises(FileNotFoundError):
        file.append(events(2), START_NS, START_NS)
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


def sequences_in(folder: Path) -> list[int]:
    return [int(id_of(event).split("/")[1]) for event in load_folder(folder)]


def test_what_an_attempt_says_when_the_next_has_begun_goes_beside_it(tmp_path: Path) -> None:
    """At any time of the late events, for a stream that had begun or not, and after a restart too."""
    later = make_stream(stream_id=b"\xaa" * 16, attempt=1)
    append(tmp_path, 1)
    earlier = EventFile(tmp_path, make_stream())
    earlier.append(events(2), START_NS, START_NS)
    append(tmp_path, 1, stream=later, start_ns=START_NS + 10 * 10**9)
    earlier.append(events(3), START_NS + 10**9, START_NS)
    earlier.append(events(4), START_NS + 20 * 10**9, START_NS)
    earlier.close()
    append(tmp_path, 5, start_ns=START_NS + 30 * 10**9, began_ns=START_NS)
    assert [sequences_in(folder) for folder in (tmp_path / "demo", tmp_path / "demo" / "attempt-0")] == [
        [1, 2, 1],
        [3, 4, 5],
    ]
    assert audit(tmp_path / "demo").losses == audit(tmp_path / "demo" / "attempt-0").losses == []
    assert EventFile(tmp_path, make_stream()).last_id == EventId(STREAM_ID, 5, 0)
    assert EventFile(tmp_path, later).last_id == EventId(later.id, 1, 0)


@pytest.mark.parametrize(
    ("number", "began_seconds", "late"),
    [(0, 5, True), (0, 15, False), (1, 15, False), (2, 5, False), (1, -5, True)],
    ids=["an earlier one", "a fresh start", "its resume", "its resume by a wrong clock", "of another fresh start"],
)
def test_a_stream_that_is_new_to_a_folder_comes_late_when_it_began_before_the_last_one_there(
    tmp_path: Path, number: int, began_seconds: int, *, late: bool
) -> None:
    """The last attempt is a fresh start at 10 s, after another fresh start at -10 s in some cases."""
    if number == 1 and late:
        append(tmp_path, 1, start_ns=START_NS - 10 * 10**9)
    append(tmp_path, 1, stream=make_stream(stream_id=b"\xaa" * 16), start_ns=START_NS + 10 * 10**9)
    new = make_stream(stream_id=b"\xbb" * 16, attempt=number)
    append(tmp_path, 1, stream=new, start_ns=START_NS + began_seconds * 10**9)
    assert (tmp_path / "demo" / f"attempt-{number}").is_dir() == late


def test_an_attempt_of_an_earlier_start_comes_late_when_that_start_did_too(tmp_path: Path) -> None:
    """Both lay in outboxes until a fresh start of that run was there."""
    for number, stream_id, began_seconds in ((0, b"\xaa", 10), (0, b"\xbb", 0), (1, b"\xcc", 5)):
        stream = make_stream(stream_id=stream_id * 16, attempt=number)
        append(tmp_path, 1, stream=stream, start_ns=START_NS + began_seconds * 10**9)
    assert [len(event_files(tmp_path / "demo" / name)) for name in ("", "attempt-0", "attempt-1")] == [1, 1, 1]


def test_two_streams_that_come_late_with_one_number_have_a_folder_each(tmp_path: Path) -> None:
    """The later of them has the first of the two folders, for good."""
    for began_seconds, stream_id in ((10, b"\xaa"), (5, b"\xbb"), (0, b"\xcc"), (0, b"\xcc")):
        stream = make_stream(stream_id=stream_id * 16)
        append(tmp_path, 1, stream=stream, start_ns=START_NS + began_seconds * 10**9)
    folders = [tmp_path / "demo" / name for name in ("", "attempt-0", "attempt-0/attempt-0")]
    assert [len(event_files(folder)) for folder in folders] == [1, 1, 2]
    assert EventFile(tmp_path, make_stream(stream_id=b"\xcc" * 16)).last_id is not None


def test_where_a_stream_stands_is_told_by_both_folders(tmp_path: Path) -> None:
    """An earlier version returned from the folder for late events."""
    late = tmp_path / "demo" / "attempt-0"
    append(tmp_path, 1, 2, 3)
    late.mkdir()
    event_files(tmp_path / "demo")[0].rename(late / NAME)
    append(tmp_path, 1, stream=make_stream(stream_id=b"\xaa" * 16))
    (tmp_path / "demo" / NAME).write_bytes(
        b"".join(map(pack_frame, [version_event(START_NS), *events(4, 5)])),
    )
    assert EventFile(tmp_path, make_stream()).last_id == EventId(STREAM_ID, 5, 0)


def test_a_stream_whose_first_file_is_torn_at_once_still_has_its_place(tmp_path: Path) -> None:
    append(tmp_path, 1, start_ns=START_NS + 10 * 10**9)
    (path,) = event_files(tmp_path / "demo")
    path.write_bytes(path.read_bytes()[:9])
    append(tmp_path, 1, start_ns=START_NS + 10 * 10**9)
    append(tmp_path, 1, stream=make_stream(stream_id=b"\xaa" * 16))
    assert len(event_files(tmp_path / "demo")) == 2
    assert len(event_files(tmp_path / "demo" / "attempt-0")) == 1


def fail_to_write(logdir: Path, monkeypatch: pytest.MonkeyPatch, taken_bytes: int = 0) -> None:
    """Append on a disk that takes a number of bytes, and no more."""
    write, left = os.write, iter([taken_bytes])

    def full(file: int, data: bytes) -> int:
        if (size := next(left, 0)) == 0:
            raise OSError(122, "Disk quota exceeded")
        return write(file, data[:size])

    with monkeypatch.context() as context:
        context.setattr("tensorboard_sidecar.logger_service.events.event_file.os.write", full)
        with pytest.raises(OSError, match="quota"):
            append(logdir, 1)


def test_a_file_in_which_nothing_could_be_written_is_used_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        fail_to_write(tmp_path, monkeypatch)
    assert append(tmp_path, 1) == NAME
    assert len(load_events(tmp_path / "demo" / NAME)) == 2


def test_a_torn_file_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_to_write(tmp_path, monkeypatch, taken_bytes=7)
    assert append(tmp_path, 1) == NAME[:-1] + "1"
    assert (tmp_path / "demo" / NAME).stat().st_size == 7


def test_an_empty_file_is_left_alone_when_another_one_sorts_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_to_write(tmp_path, monkeypatch)
    (tmp_path / "demo" / "events.out.tfevents.1700000500.host.1.0").touch()
    assert append(tmp_path, 1) == "events.out.tfevents.1700000501.0000.00010203.0001"
    assert (tmp_path / "demo" / NAME).stat().st_size == 0


def test_links_that_lead_in_a_circle_are_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to("demo")
    with pytest.raises(OSError, match="demo"):
        append(tmp_path, 1)


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    file = EventFile(tmp_path, make_stream())
    (tmp_path / "demo").mkdir()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "demo" / NAME).symlink_to(victim)
    file.append(events(1), START_NS, START_NS)
    assert victim.read_bytes() == b"precious"
    assert event_files(tmp_path / "demo")[-1].name == NAME[:-1] + "1"


@pytest.mark.parametrize("wall_time_ns", [-(2**63), 0, 2**63 - 1])
def test_any_time_gives_a_name(tmp_path: Path, wall_time_ns: int) -> None:
    name = EventFileName.parse(append(tmp_path, 1, start_ns=wall_time_ns))
    assert name is not None
    assert 0 <= name.start_seconds < 10**10


def test_rank_zero_writes_in_the_run_and_others_in_a_folder_each(tmp_path: Path) -> None:
    assert run_directory(tmp_path, make_stream("team/first")) == tmp_path / "team" / "first"
    assert run_directory(tmp_path, make_stream("team/first", rank=3)) == tmp_path / "team" / "first" / "rank-3"


def test_a_set_of_hyperparameters_has_a_folder_in_the_folder_of_its_stream(tmp_path: Path) -> None:
    row = row_name(bytes(range(6)))
    assert row == "hparams-000102030405"
    stream = make_stream("team/first", rank=3, attempt=2)
    assert run_directory(tmp_path, stream, row) == tmp_path / "team" / "first" / "rank-3" / row
    late = run_directory(tmp_path, stream, row) / "attempt-2"
    assert is_row(late)
    assert is_row(late.parent)
    assert not any(map(is_row, (late.parent.parent, late / "other", tmp_path / "hparams-0" / "attempt-2")))


def test_folders_of_hyperparameters_are_counted_and_no_others(tmp_path: Path) -> None:
    assert rows_in(tmp_path / "missing") == 0
    for name in ("hparams-000102030405", "hparams-0a0b0c0d0e0f", "hparams-1", "hparams", "rank-1", "attempt-0"):
        (tmp_path / name).mkdir()
    assert rows_in(tmp_path) == 2


def test_nothing_is_made(tmp_path: Path) -> None:
    run_directory(tmp_path, make_stream("team/first"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("linked", ["team", "team/first", "team/first/rank-1"])
def test_a_link_out_of_the_log_directory_is_refused(tmp_path: Path, linked: str) -> None:
    logdir, outside = tmp_path / "log", tmp_path / "outside"
    outside.mkdir()
    link = logdir / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    with pytest.raises(PermissionError, match="outside"):
        run_directory(logdir, make_stream("team/first", rank=1))


def test_a_log_directory_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "log").symlink_to(tmp_path / "disk")
    assert run_directory(tmp_path / "log", make_stream()) == tmp_path / "log" / "demo"


def test_a_path_upwards_is_not_inside(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        inside(tmp_path / "log", tmp_path / "log" / ".." / "other")


def test_links_in_a_circle_are_a_fault_of_the_disk_when_they_are_used(tmp_path: Path) -> None:
    (tmp_path / "demo").symlink_to("demo")
    with pytest.raises(OSError, match=r"demo"):
        run_directory(tmp_path, make_stream()).mkdir(parents=True)


def following(directory: Path, *names: str, seconds: int = 1_700_000_000) -> str:
    """Return the name that comes after others."""
    for name in names:
        (directory / name).touch()
    found = str(next_name(directory, 0, "00010203", seconds * 10**9))
    assert all(name < found for name in names)
    return found


def test_a_name_is_read_as_it_was_written() -> None:
    name = EventFileName(1_700_000_000, 2, "00010203", 7)
    assert str(name) == f"{PREFIX}1700000000.0002.00010203.0007"
    assert EventFileName.parse(str(name)) == name


@pytest.mark.parametrize(
    ("suffix", "shown"),
    [
        ("", ""),
        ("_a", "_a"),
        ("-trial.7", "-trial.7"),
        (".trial-7", "_.trial-7"),
        ("7", "_7"),
        ("x y", "_x y"),
        ("é", "_é"),
        (".projector", "_.projector"),
    ],
)
def test_a_name_with_a_suffix_is_read_as_it_was_written(suffix: str, shown: str) -> None:
    """A suffix never runs into the counter, and a copy of a file of this program has no suffix."""
    name = EventFileName(1_700_000_000, 2, "00010203", 7).with_suffix(suffix)
    assert str(name) == f"{PREFIX}1700000000.0002.00010203.0007{shown}"
    assert EventFileName.parse(str(name)) == name
    assert name.with_suffix(name.suffix) == name


def test_names_with_a_suffix_sort_in_the_order_of_writing(tmp_path: Path) -> None:
    names = []
    for suffix in ("_b", "", "_a", "9"):
        names.append(str(next_name(tmp_path, 0, "00010203", START_NS, suffix)))
        (tmp_path / names[-1]).touch()
    assert names == sorted(names) == names_in(tmp_path) == [str(name) for name in own_names_in(tmp_path)]
    last = f"{PREFIX}1700000000.0000.00010203.9999_a"
    (tmp_path / last).touch()
    assert str(next_name(tmp_path, 0, "00010203", START_NS, "_a")) == f"{PREFIX}1700000001.0000.00010203.10000_a"


def test_a_suffix_ends_the_names_also_after_a_restart_and_changes_no_order(tmp_path: Path) -> None:
    file = EventFile(tmp_path, make_stream())
    assert file.suffix == ""
    file.suffix = ".mine"
    file.append(events(1), START_NS, START_NS)
    again = EventFile(tmp_path, make_stream())
    assert (again.suffix, again.last_id) == ("_.mine", EventId(STREAM_ID, 1, 0))
    again.append(events(2), START_NS, START_NS)
    assert [path.name for path in event_files(tmp_path / "demo")] == [f"{NAME}_.mine", f"{NAME[:-1]}1_.mine"]
    assert audit(tmp_path / "demo").losses == []
    late = append(tmp_path, 5, stream=make_stream(attempt=1, stream_id=b"\1" * 16), start_ns=START_NS + 10**12)
    assert late > f"{NAME[:-1]}1_.mine"
    assert EventFile(tmp_path, make_stream()).directory(START_NS) == tmp_path / "demo" / "attempt-0"


@pytest.mark.parametrize("name", [f"{PREFIX}1700000000.host.1.0", f"{NAME}.profile", "x", f"{PREFIX}1"])
def test_names_of_other_programs_are_not_ours(name: str) -> None:
    assert EventFileName.parse(name) is None


def test_a_counter_that_has_a_digit_more_sorts_behind_all_the_same(tmp_path: Path) -> None:
    """Ten thousand restarts: 10000 alone would sort before 9999."""
    nine = f"{PREFIX}1700000000.0000.00010203.9999"
    ten = following(tmp_path, nine)
    assert ten == f"{PREFIX}1700000001.0000.00010203.10000"
    assert following(tmp_path, nine, ten) == f"{PREFIX}1700000001.0000.00010203.10001"
    assert [name.counter for name in own_names_in(tmp_path)] == [9999, 10000]


@pytest.mark.parametrize("name", [f"{PREFIX}9999999999.x", f"{PREFIX}9999999999.host.1.0"])
def test_where_no_name_sorts_behind_none_is_given(tmp_path: Path, name: str) -> None:
    """The next name would have eleven digits, and sort before all others."""
    with pytest.raises(FileExistsError, match=f"{name}.* move that file away"):
        following(tmp_path, name)


def test_folders_are_no_event_files(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}9999999999.x").mkdir()
    (tmp_path / NAME).mkdir()
    assert names_in(tmp_path) == []
    assert following(tmp_path) == NAME


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert own_names_in(tmp_path / "demo") == []


@pytest.mark.parametrize(
    "attempts",
    [
        [(0, 0), (10, 1), (20, 2)],
        [(0, 0), (10, 1), (20, 0), (30, 1)],
        [(0, 0), (10, 0), (20, 0)],
        [(600, 0), (300, 1), (310, 2)],
        [(0, 0), (86_400, 1), (-86_400, 2)],
        [(0, 0), (0, 0), (0, 1)],
        [(5, 1), (3, 2)],
        [(0, 1), (10, 0)],
        [(0, 1), (10, 2), (20, 0), (30, 1)],
        [],
    ],
    ids=[
        "a run that is resumed twice",
        "a fresh start under the name of a resumed run",
        "fresh starts alone",
        "a first attempt whose clock was ahead",
        "clocks that are wrong by a day",
        "all at once",
        "no first attempt, and a clock that went back",
        "a fresh start behind a resumed run that began elsewhere",
        "the same with more of them",
        "none",
    ],
)
def test_attempts_follow_each_other(attempts: list[tuple[float, int]]) -> None:
    """In any order of the input; the logger saw the attempts one after the other."""
    ordered = [Attempt(start, number, f"{place:08x}", place) for place, (start, number) in enumerate(attempts)]
    for found in permutations(ordered):
        assert in_order(found) == ordered


def test_what_is_shipped_late_has_its_place_all_the_same() -> None:
    """The order in which the logger saw the attempts does not matter here."""
    first, second = Attempt(0, 0, "a", 2), Attempt(10, 1, "b", 1)
    assert in_order([second, first]) == [first, second]


def test_where_nothing_tells_more_clocks_decide() -> None:
    """Recordings that trainers wrote themselves: nobody saw them all."""
    resumed, fresh = Attempt(0, 1, "a", 0), Attempt(10, 0, "b", 10)
    assert in_order([fresh, resumed]) == [resumed, fresh]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the files that are made durable, in their order."""
    found: list[Path] = []
    sync_file = event_file.sync_file
    monkeypatch.setattr(event_file, "sync_file", lambda path: (found.append(path), sync_file(path)))
    return found


def test_a_sync_makes_what_was_written_durable_once(tmp_path: Path, synced: list[Path]) -> None:
    file = EventFile(tmp_path, make_stream())
    file.sync()
    assert synced == []
    for sequence in (1, 2):
        file.append(events(sequence), START_NS, START_NS)
        file.sync()
        file.sync()
    [path] = event_files(tmp_path / "demo")
    assert synced == [path, path]
    file.close()
    file.sync()
    assert len(synced) == 2


def test_the_sync_of_a_new_object_covers_the_file_of_one_that_may_have_ended_before_its_sync(
    tmp_path: Path, synced: list[Path]
) -> None:
    append(tmp_path, 1)
    EventFile(tmp_path, make_stream()).sync()
    assert synced == event_files(tmp_path / "demo")
    append(tmp_path, 2)
    file = EventFile(tmp_path, make_stream())
    file.append(events(3), START_NS, START_NS)
    synced.clear()
    file.sync()
    assert synced == event_files(tmp_path / "demo")[-2:]
    file.close()


def test_a_file_is_durable_when_its_stream_leaves_the_folder(tmp_path: Path, synced: list[Path]) -> None:
    file = EventFile(tmp_path, make_stream())
    file.append(events(1), START_NS, START_NS)
    [path] = event_files(tmp_path / "demo")
    append(tmp_path, 1, stream=make_stream(attempt=1, stream_id=bytes(16)))
    assert path not in synced
    file.append(events(2), START_NS, START_NS)
    assert path in synced
    assert event_files(tmp_path / "demo" / "attempt-0")
    file.close()


def test_in_place_the_log_directory_is_the_folder_of_the_run(tmp_path: Path) -> None:
    for rank, folder in ((0, tmp_path), (3, tmp_path / "rank-3")):
        stream = make_stream("any/run", rank=rank)
        file = EventFile(tmp_path, stream, in_place=True)
        file.append(events(1, stream=stream), START_NS, START_NS)
        file.sync()
        file.close()
        assert len(event_files(folder)) == 1
        assert file.beside("hparams-0123456789ab").folder == folder / "hparams-0123456789ab"
    assert not (tmp_path / "any").exists()
