"""Several attempts of one run, live, served again from an emptied log directory, and replayed: the same files."""

from pathlib import Path

import pytest
from support.events import event_files, folder_bytes, id_of, load_folder
from support.recordings import START_NS, Said, append_records, make_records, make_stream

from tensorboard_sidecar.logger_service.offline.verification import verify
from tensorboard_sidecar.logger_service.projection.follower import Follower
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.messages import RunStart, Scalars
from tensorboard_sidecar.protocol.stream import Stream

S = 10**9
# Their ids sort against their times.
FRESH = make_stream(stream_id=b"\xaa" * 16)
RESUMED = make_stream(attempt=1, stream_id=b"\xab" * 16)
AGAIN = make_stream(stream_id=b"\x01" * 16)


def say(
    root: Path,
    stream: Stream,
    first: int,
    *,
    at_seconds: int,
    first_step: int = 0,
    sequence: int = 1,
    seen_at_seconds: int | None = None,
) -> None:
    """Record three scalars from step ``first`` on; a start before them when they are the first.

    The logger's clock may say another time than the trainer's.
    """
    said = [] if sequence > 1 else [Said(first_step, RunStart(first_step))]
    said += [Said(step, Scalars({"loss": float(at_seconds)})) for step in range(first, first + 3)]
    records = make_records(said, first_sequence=sequence, start_ns=START_NS + (at_seconds - sequence) * S)
    seen_ns = START_NS + (at_seconds if seen_at_seconds is None else seen_at_seconds) * S
    append_records(root / stream.run / stream.folder_name, stream, records, wall_time_ns=seen_ns)


def serve(recordings: Path, logdir: Path) -> None:
    """Project what is there, as a logger that is started and stopped."""
    projection = Follower(recordings, logdir)
    while projection.turn(0.0, thorough=True):
        pass
    projection.close()


def same_everywhere(recordings: Path, live: Path) -> None:
    """Assert that a new log directory gets the same bytes, from a logger and from a replay."""
    serve(recordings, live.with_name("served"))
    replay([recordings], live.with_name("replayed"))
    assert folder_bytes(live) == folder_bytes(live.with_name("served")) == folder_bytes(live.with_name("replayed"))


def whose(logdir: Path, folder: str = "demo") -> list[str]:
    """Return the streams of a folder's files, in TensorBoard's order."""
    return [path.name.split(".")[5][:2] for path in event_files(logdir / folder)]


def ids(logdir: Path, folder: str = "demo") -> list[str]:
    return [id_of(event)[30:] for event in load_folder(logdir / folder)]


def test_a_fresh_start_after_a_resumed_one_is_the_last_everywhere(tmp_path: Path) -> None:
    """Its number is lower than that of the attempt before: what counts is when it began."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    for stream, first, at_seconds, first_step in ((FRESH, 1, 0, 0), (RESUMED, 3, 100, 2), (AGAIN, 1, 200, 0)):
        say(recordings, stream, first, at_seconds=at_seconds, first_step=first_step)
        serve(recordings, live)
    assert whose(live) == ["aa", "ab", "01"]
    same_everywhere(recordings, live)


def test_a_first_attempt_whose_clock_was_ahead_is_the_first_everywhere(tmp_path: Path) -> None:
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, FRESH, 1, at_seconds=600, seen_at_seconds=0)
    serve(recordings, live)
    say(recordings, RESUMED, 4, at_seconds=300, first_step=3, seen_at_seconds=301)
    serve(recordings, live)
    assert whose(live) == ["aa", "ab"]
    same_everywhere(recordings, live)


def test_a_fresh_start_after_a_resumed_one_whose_first_attempt_was_recorded_elsewhere(tmp_path: Path) -> None:
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, RESUMED, 4, at_seconds=0, first_step=3)
    serve(recordings, live)
    say(recordings, AGAIN, 1, at_seconds=100)
    serve(recordings, live)
    assert whose(live) == ["ab", "01"]
    same_everywhere(recordings, live)


@pytest.mark.parametrize("ahead_seconds", [0, 600], ids=["", "and its clock is ahead"])
def test_a_trainer_that_is_not_dead_yet_goes_on_beside_its_successor(tmp_path: Path, ahead_seconds: int) -> None:
    """Whenever it says something, it is there once, after any number of restarts, and hides nothing."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    say(recordings, FRESH, 1, at_seconds=ahead_seconds)
    serve(recordings, live)
    say(recordings, RESUMED, 4, at_seconds=200, first_step=3)
    serve(recordings, live)
    for sequence, at_seconds in ((5, 150), (8, 250), (11, 260)):
        say(recordings, FRESH, sequence, at_seconds=ahead_seconds + at_seconds, sequence=sequence)
        serve(recordings, live)
        before = folder_bytes(live)
        serve(recordings, live)
        replay([recordings], live)
        assert folder_bytes(live) == before
    assert whose(live) == ["aa", "ab"]
    assert [name.rsplit("/")[1] for name in ids(live, "demo/attempt-0")] == [str(n) for n in range(5, 14)]
    assert not verify(live).lossy


def test_a_stream_that_left_the_runs_folder_does_not_come_back(tmp_path: Path) -> None:
    """Though the projection never stops, and whoever took the folder is silent since long."""
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    projection = Follower(recordings, live)
    now_seconds = 0.0
    for stream, sequence in ((FRESH, 1), (RESUMED, 1), (FRESH, 5), (FRESH, 8)):
        say(recordings, stream, sequence, at_seconds=int(now_seconds), sequence=sequence)
        now_seconds += 1000
        while projection.turn(now_seconds, thorough=True):
            pass
    projection.close()
    assert (whose(live), whose(live, "demo/attempt-0")) == (["aa", "ab"], ["aa"])
    assert not verify(live).lossy
    before = folder_bytes(live)
    serve(recordings, live)
    assert folder_bytes(live) == before


def test_a_journal_and_what_an_outbox_held_behind_it_are_one_stream_in_a_replay(tmp_path: Path) -> None:
    """A later attempt had begun meanwhile."""
    say(tmp_path / "recordings" / "outbox", FRESH, 4, at_seconds=300, sequence=5)
    say(tmp_path / "recordings" / "journal", RESUMED, 4, at_seconds=200, first_step=3)
    say(tmp_path / "recordings" / "journal", FRESH, 1, at_seconds=0)
    replay([tmp_path / "recordings"], tmp_path / "live")
    assert whose(tmp_path / "live") == ["aa", "aa", "ab"]
    assert not verify(tmp_path / "live").lossy


def test_ranks_have_an_order_each(tmp_path: Path) -> None:
    recordings, live = tmp_path / "recordings", tmp_path / "live"
    for attempt in (0, 1):
        for rank in (0, 1):
            stream = make_stream(rank=rank, attempt=attempt, stream_id=bytes([16 * rank + 9 - attempt]) * 16)
            say(recordings, stream, 1, at_seconds=100 * attempt - rank)
        serve(recordings, live)
    assert (whose(live), whose(live, "demo/rank-1")) == (["09", "08"], ["19", "18"])
    same_everywhere(recordings, live)
