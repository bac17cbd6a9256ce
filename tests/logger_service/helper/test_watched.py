"""A watched folder: its recordings are shown in it, clients are answered when their records are on disk."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.records.events import load_folder
from support.records.recordings import Said, append_records, make_records, make_stream, write_recording
from support.running.embedded import shown

from tensorboard_sidecar.logger_service.events import event_file
from tensorboard_sidecar.logger_service.folders.logger_lock import folder_lock
from tensorboard_sidecar.logger_service.folders.low_water import DiskSpace
from tensorboard_sidecar.logger_service.helper import watched as module
from tensorboard_sidecar.logger_service.helper.watched import Wanted, Watched
from tensorboard_sidecar.logger_service.projection import follower
from tensorboard_sidecar.logger_service.projection.quarantine import Quarantine
from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.helper.messages import Shown, Trouble
from tensorboard_sidecar.protocol.messages import Matrix, RunEnd, RunStart, Scalars
from tensorboard_sidecar.protocol.names import RECORDING_NAME

SAID = [
    Said(0, RunStart()),
    *(Said(step, Scalars({"loss": float(step)})) for step in range(20)),
    Said(20, RunEnd("completed", plain=True)),
]
STREAM = make_stream()
NEXT = len(SAID) + 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(tmp_path / RECORDING_NAME, SAID, STREAM)
    return tmp_path


def turns(watched: Watched, now_seconds: float = 0.0) -> list[tuple[int, Shown | Trouble]]:
    answers = watched.turn(now_seconds)
    while watched.busy:
        answers += watched.turn(now_seconds)
    return answers


def test_the_event_files_lie_in_the_folder_itself(folder: Path) -> None:
    watched = Watched(folder)
    assert turns(watched) == []
    assert shown(folder) == [float(step) for step in range(20)]
    assert watched.settled
    assert not watched.trouble
    watched.close()


def test_a_client_is_answered_once_all_its_records_are_shown(folder: Path) -> None:
    watched = Watched(folder)
    watched.clients.add(3)
    watched.want(Wanted(3, STREAM.id, NEXT))
    assert turns(watched) == [(3, Shown(STREAM.id, NEXT))]
    watched.want(Wanted(3, STREAM.id, NEXT + 1))
    assert turns(watched) == []
    append_records(
        folder / RECORDING_NAME / "demo" / STREAM.folder_name, STREAM, make_records(SAID[1:2], first_sequence=NEXT)
    )
    assert turns(watched) == [(3, Shown(STREAM.id, NEXT + 1))]
    watched.close()


def test_the_findings_of_each_writer_are_known_while_it_goes_on(folder: Path) -> None:
    other = make_stream("other", stream_id=b"\1" * 16)
    said = [Said(0, RunStart()), Said(1, Scalars({"loss": float("nan")}))]
    place = write_recording(folder / RECORDING_NAME, said, other)
    watched = Watched(folder)
    assert watched.findings() == {}
    turns(watched)
    [(stream, [finding])] = watched.findings().items()
    assert (stream, finding.rule, finding.state) == (other.id, "non-finite-scalar", "open")
    append_records(place, other, make_records([Said(2, Scalars({"loss": 1.0}))], first_sequence=3))
    watched.look_again()
    turns(watched, 1.0)
    [(stream, [finding])] = watched.findings().items()
    assert (stream, finding.state) == (other.id, "cleared")
    watched.close()
    assert watched.findings() == {}


def test_what_is_shown_is_durable_when_a_client_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync_file = event_file.sync_file
    monkeypatch.setattr(event_file, "sync_file", lambda path: (synced.append(path), sync_file(path)))
    watched = Watched(folder)
    turns(watched)
    assert synced == []
    watched.want(Wanted(3, STREAM.id, NEXT))
    assert turns(watched)
    assert [path.parent for path in synced] == [folder]
    watched.want(Wanted(3, STREAM.id, NEXT))
    assert turns(watched)
    assert len(synced) == 1
    watched.close()


def test_a_forgotten_client_gets_no_answer(folder: Path) -> None:
    watched = Watched(folder)
    for client in (3, 4):
        watched.clients.add(client)
        watched.want(Wanted(client, STREAM.id, NEXT))
    watched.forget(3)
    assert turns(watched) == [(4, Shown(STREAM.id, NEXT))]
    assert not watched.settled
    watched.forget(4)
    assert not watched.settled
    turns(watched)
    assert watched.settled
    watched.close()


def test_a_folder_that_another_process_shows_is_taken_over_when_that_one_ends(folder: Path) -> None:
    watched = Watched(folder)
    watched.clients.add(3)
    watched.want(Wanted(3, STREAM.id, NEXT))
    with folder_lock(folder / RECORDING_NAME, "recordings"):
        for now_seconds in (0.0, 0.5, 1.0):
            assert turns(watched, now_seconds) == []
        assert "is written by another logger" in watched.report(0.5).trouble
        assert not watched.trouble
    assert turns(watched, 2.0) == [(3, Shown(STREAM.id, NEXT))]
    assert not watched.report(2.0).trouble
    assert len(shown(folder)) == 20
    watched.close()


def test_clients_of_two_helpers_on_one_folder_are_answered_by_either(folder: Path) -> None:
    """Each step of a batch job has a helper of its own; all its processes may write to one folder."""
    silent = make_stream(rank=1, stream_id=bytes(range(1, 17)))
    write_recording(folder / RECORDING_NAME, SAID[:1], silent)
    first, second = Watched(folder), Watched(folder)
    for watched in (first, second):
        watched.clients.add(3)
    first.turn(0.0)
    second.want(Wanted(3, STREAM.id, NEXT))
    second.want(Wanted(3, silent.id, 2))
    second.want(Wanted(4, silent.id, 3))
    second.want(Wanted(3, bytes(16), 2))
    turns(first, 0.5)
    assert turns(second, 1.0) == [(3, Shown(STREAM.id, NEXT)), (3, Shown(silent.id, 2))]
    assert turns(second, 2.0) == []
    first.close()
    second.close()


def test_a_folder_that_is_deleted_is_a_trouble_and_is_not_made_again(folder: Path) -> None:
    watched = Watched(folder)
    watched.clients.add(3)
    turns(watched)
    shutil.rmtree(folder)
    [(_, trouble)] = turns(watched, 0.1)
    assert isinstance(trouble, Trouble)
    assert "was moved or deleted" in trouble.reason
    turns(watched, 5.0)
    assert not folder.exists()
    watched.forget(3)
    turns(watched, 6.0)
    assert watched.settled
    assert not watched.trouble


def test_a_file_system_without_locks_is_shown_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Lustre without the option flock. Torch's writer needs no lock either."""

    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(module, "folder_lock", no_lock)
    watched = Watched(folder)
    turns(watched)
    assert len(shown(folder)) == 20
    assert not watched.trouble
    watched.close()


def test_a_trouble_is_told_as_text_that_prints(tmp_path: Path) -> None:
    """A path may hold bytes that are no text: the message with the trouble must be packed all the same."""
    folder = tmp_path / "r\udcff\n"
    folder.mkdir()
    watched = Watched(folder)
    watched.clients.add(3)
    [(_, trouble)] = turns(watched)
    assert isinstance(trouble, Trouble)
    assert "r\\udcff\\n" in trouble.reason


def test_a_recording_that_fails_costs_the_others_of_the_folder_nothing(folder: Path) -> None:
    """And the folder is not settled before the others are shown."""
    broken = folder / RECORDING_NAME / "broken" / "stream"
    broken.mkdir(parents=True)
    (broken / "00000000000000000001.segment").write_bytes(b"rubbish")
    more = [Said(step, Scalars({"loss": float(step)})) for step in range(20_000)]
    append_records(
        folder / RECORDING_NAME / "demo" / STREAM.folder_name, STREAM, make_records(more, first_sequence=NEXT)
    )
    watched = Watched(folder)
    watched.turn(0.0)
    assert watched.trouble
    assert not watched.settled
    while watched.busy:
        watched.turn(0.0)
    assert watched.settled
    assert len(shown(folder)) == 20_020
    assert str(broken) in watched.trouble
    watched.close()


def test_a_folder_is_not_settled_while_a_suspect_waits(folder: Path) -> None:
    """A record that may have killed a helper is drawn after a pause; the helper remembers the folder."""
    matrix = Matrix("m", pack_array(np.eye(3, dtype=np.float32)))
    append_records(
        folder / RECORDING_NAME / "demo" / STREAM.folder_name,
        STREAM,
        make_records([Said(30, matrix)], first_sequence=NEXT),
    )
    suspects = Quarantine()
    suspects.open(folder / RECORDING_NAME)
    suspects._save(shown=(STREAM.id, NEXT))  # and the process ends
    watched = Watched(folder)
    turns(watched)
    assert not watched.settled
    assert len(shown(folder)) == 20
    turns(watched, module._RETRY_SECONDS + 60.0)
    assert watched.settled
    assert any(value.tag == "m" for event in load_folder(folder) for value in event.summary.value)
    watched.close()


def test_a_disk_that_is_nearly_full_is_a_trouble(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "measure_disk", lambda _: DiskSpace(1000, 10**9))
    watched = Watched(folder)
    watched.clients.add(3)
    watched.want(Wanted(3, STREAM.id, NEXT))
    assert turns(watched) == [(3, Trouble(f"the disk of {folder} is nearly full"))]
    assert watched.report(2.0).lag_seconds == 2.0
    monkeypatch.setattr(follower, "measure_disk", lambda _: DiskSpace(10**9, 10**9))
    assert turns(watched, 3.0) == [(3, Shown(STREAM.id, NEXT))]
    assert watched.report(4.0).lag_seconds == 0.0
    watched.close()


def test_a_later_stream_is_shown_while_an_earlier_one_goes_on(folder: Path) -> None:
    """Two programs write to one folder: the one that goes on must not keep the other from its end."""
    later = make_stream(stream_id=bytes(range(1, 17)))
    write_recording(
        folder / RECORDING_NAME, [Said(0, RunStart()), Said(1, Scalars({"other": 1.0}))], later, wall_time_ns=2 * 10**18
    )
    watched = Watched(folder)
    watched.clients.update((3, 4))
    watched.want(Wanted(4, later.id, 3))
    grown = NEXT
    answers = []
    for turn in range(5):  # the first stream has grown at each turn
        answers += watched.turn(float(turn))
        records = make_records([Said(grown, Scalars({"loss": 1.0}))], first_sequence=grown)
        append_records(folder / RECORDING_NAME / "demo" / STREAM.folder_name, STREAM, records)
        grown += 1
    assert answers == [(4, Shown(later.id, 3))]
    watched.close()
