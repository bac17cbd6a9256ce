"""The main loop of a helper: clients, notes, outboxes of killed programs, and its end."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from support.machine.waiting import wait_until
from support.records.golden import FINDING
from support.records.recordings import START_NS, Said, make_records, make_stream, write_recording
from support.running.embedded import shown

from tensorboard_sidecar.logger_service.helper.helper import Helper, Notes
from tensorboard_sidecar.logger_service.helper.watched import Watched
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.helper.messages import (
    Findings,
    HelperMessage,
    MessageBuffer,
    Report,
    Shown,
    StatusRequest,
    Sync,
    Trouble,
    Watch,
    pack_message,
)
from tensorboard_sidecar.protocol.helper.place import SOCKET_NAME, helper_folder, note_path, write_note
from tensorboard_sidecar.protocol.messages import RunStart, Scalars
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.protocol.outbox.outbox_files import NO_LOGGER, Destination, write_destination
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox

SAID = [Said(0, RunStart()), *(Said(step, Scalars({"loss": float(step)})) for step in range(20))]
STREAM = make_stream()
NEXT = len(SAID) + 1
TWENTY = [float(step) for step in range(20)]


class Client:
    """A client of the helper in ``place``."""

    def __init__(self, place: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(place / SOCKET_NAME))
        self._buffer = MessageBuffer()

    def say(self, *messages: HelperMessage) -> None:
        self._socket.sendall(b"".join(map(pack_message, messages)))

    def hear(self) -> HelperMessage:
        while True:
            for message in self._buffer.add(self._socket.recv(2**16)):
                return message

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def place(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(memory))
    return helper_folder()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_recording(tmp_path / "first" / RECORDING_NAME, SAID, STREAM)
    return tmp_path / "first"


@pytest.fixture
def run(place: Path, memory: Path) -> Iterator[Callable[..., threading.Thread]]:
    """Return a function that runs a helper in a thread; a helper that is left is stopped at the end."""
    stopping = threading.Event()
    threads = []

    def start(idle_seconds: float = 600.0) -> threading.Thread:
        helper = Helper(place, lambda: sorted(memory.glob("outbox-*")), idle_seconds)
        thread = threading.Thread(target=lambda: helper.run(stopping.is_set))
        thread.start()
        threads.append(thread)
        return thread

    yield start
    stopping.set()
    for thread in threads:
        thread.join()


@pytest.fixture
def client(run: Callable[..., threading.Thread], place: Path) -> Iterator[Client]:
    run()
    client = Client(place)
    yield client
    client.close()


def test_a_client_is_told_when_its_records_are_shown(client: Client, folder: Path) -> None:
    client.say(Watch(bytes(folder)), Sync(STREAM.id, NEXT))
    assert client.hear() == Shown(STREAM.id, NEXT)
    assert shown(folder) == TWENTY


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, list[Finding]]:
    """Return the findings that each watched folder has, by stream; the test changes them."""
    found: dict[bytes, list[Finding]] = {}
    monkeypatch.setattr(Watched, "findings", lambda _watched: dict(found))
    return found


def test_a_client_is_told_the_findings_of_the_stream_that_it_names(
    client: Client, folder: Path, place: Path, findings: dict[bytes, list[Finding]]
) -> None:
    findings |= {STREAM.id: [FINDING], bytes(16): [replace(FINDING, rule="of-another")]}
    client.say(Watch(bytes(folder), STREAM.id))
    assert client.hear() == Findings([FINDING])
    cleared = replace(FINDING, state="cleared")
    findings[STREAM.id] = [cleared]
    assert client.hear() == Findings([cleared])
    again = Client(place)
    again.say(Watch(bytes(folder), STREAM.id))
    assert again.hear() == Findings([cleared])
    again.close()


def test_a_client_that_names_no_stream_is_told_no_findings(
    client: Client, folder: Path, findings: dict[bytes, list[Finding]]
) -> None:
    findings[STREAM.id] = [FINDING]
    client.say(Watch(bytes(folder)), Sync(STREAM.id, NEXT))
    assert client.hear() == Shown(STREAM.id, NEXT)
    client.say(StatusRequest())
    assert isinstance(client.hear(), Report)


def test_status_names_the_folders_and_their_writers(client: Client, folder: Path, place: Path) -> None:
    client.say(Watch(bytes(folder)), Sync(STREAM.id, NEXT))
    client.hear()
    other = Client(place)
    other.say(StatusRequest())
    report = other.hear()
    other.close()
    assert isinstance(report, Report)
    [watched] = report.folders
    assert (report.process_id, watched.folder, watched.writers) == (os.getpid(), bytes(folder), 1)
    assert report.memory_bytes > 2**20


def test_the_two_names_of_a_folder_are_one(client: Client, folder: Path, tmp_path: Path, place: Path) -> None:
    """With a lock for each of them, the second would be refused for the sake of the first."""
    (tmp_path / "link").symlink_to(folder)
    client.say(Watch(bytes(folder)))
    other = Client(place)
    other.say(Watch(bytes(tmp_path / "link")), Sync(STREAM.id, NEXT))
    assert other.hear() == Shown(STREAM.id, NEXT)
    other.close()


@pytest.mark.parametrize("path", [b"relative", b"/with\0zero", b"\0"])
def test_what_is_no_path_is_a_trouble(client: Client, path: bytes) -> None:
    client.say(Watch(path))
    trouble = client.hear()
    assert isinstance(trouble, Trouble)
    assert "is not the absolute path of a folder" in trouble.reason
    client.say(StatusRequest())
    assert isinstance(client.hear(), Report)


def test_a_sync_without_a_folder_and_messages_of_helpers_are_ignored(client: Client) -> None:
    client.say(Sync(STREAM.id, 1), Shown(STREAM.id, 1), Trouble("x"), StatusRequest())
    assert isinstance(client.hear(), Report)


def test_the_next_client_of_a_folder_in_trouble_learns_the_trouble(client: Client, tmp_path: Path, place: Path) -> None:
    client.say(Watch(bytes(tmp_path / "gone")))
    first = client.hear()
    other = Client(place)
    other.say(Watch(bytes(tmp_path / "gone")))
    assert other.hear() == first
    other.close()
    assert not (tmp_path / "gone").exists()


def test_a_folder_is_noted_until_it_is_shown_and_its_clients_are_gone(
    client: Client, folder: Path, place: Path
) -> None:
    client.say(Watch(bytes(folder)), Sync(STREAM.id, NEXT))
    client.hear()
    assert note_path(place, folder).exists()
    client.close()
    wait_until(lambda: not note_path(place, folder).exists())


def test_a_noted_folder_is_shown_by_the_next_helper(
    run: Callable[..., threading.Thread], folder: Path, place: Path
) -> None:
    write_note(place, folder)
    run(0.3).join()
    assert shown(folder) == TWENTY
    assert not note_path(place, folder).exists()


def test_a_helper_with_nothing_to_do_ends_and_deletes_its_socket(
    run: Callable[..., threading.Thread], place: Path
) -> None:
    thread = run(0.3)
    client = Client(place)
    thread.join(0.6)
    assert thread.is_alive()
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert not (place / SOCKET_NAME).exists()


def test_notes_without_a_recording_are_deleted(place: Path, tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"relative", b"/no/such/folder", bytes(tmp_path), b"/\0")):
        (place / "folders" / str(number)).write_bytes(content)
    assert list(Notes(place).read()) == []
    assert list((place / "folders").iterdir()) == []


def leave_outbox(memory: Path, record: Path, name: str = "outbox-1") -> None:
    """Leave the outbox of a killed program."""
    outbox = Outbox(memory / name, STREAM, capacity_bytes=2**22, wall_time_ns=START_NS)
    for record_ in make_records(SAID):
        outbox.append(Kind(record_.kind), record_.step, record_.wall_time_ns, bytes(record_.body))
    write_destination(outbox.folder, Destination(NO_LOGGER, record))
    outbox.close(keep=True)


def test_the_outbox_of_a_killed_program_is_recorded_and_shown(
    run: Callable[..., threading.Thread], memory: Path, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    leave_outbox(memory, tmp_path / "first" / RECORDING_NAME)
    run(0.5).join()
    assert shown(tmp_path / "first") == TWENTY
    assert not (memory / "outbox-1").exists()


@pytest.mark.parametrize("record", ["recordings", f"deleted/{RECORDING_NAME}"])
def test_outboxes_of_other_recordings_and_of_deleted_folders_are_left_alone(
    run: Callable[..., threading.Thread], memory: Path, tmp_path: Path, record: str
) -> None:
    """A folder that is not there may be one of another container, whose program shares this memory."""
    leave_outbox(memory, tmp_path / record)
    run(0.5).join()
    assert list(tmp_path.iterdir()) == []
    assert (memory / "outbox-1").exists()


def test_an_outbox_that_is_released_late_is_found_before_the_helper_ends(
    client: Client, memory: Path, folder: Path, place: Path, tmp_path: Path
) -> None:
    """The kernel may close the connection of a killed program before the lock of its outbox."""
    (tmp_path / "late").mkdir()
    outbox = Outbox(
        memory / "outbox-late", make_stream(stream_id=bytes(16)), capacity_bytes=2**22, wall_time_ns=START_NS
    )
    for said in SAID:
        outbox.append(
            Kind.SCALARS if isinstance(said.message, Scalars) else Kind.RUN_START,
            said.step,
            START_NS,
            encode_body(said.message),
        )
    write_destination(outbox.folder, Destination(NO_LOGGER, tmp_path / "late" / RECORDING_NAME))
    client.say(Watch(bytes(folder)), StatusRequest())
    client.hear()
    client.close()
    wait_until(lambda: not note_path(place, folder).exists())
    outbox.close(keep=True)
    wait_until(lambda: shown(tmp_path / "late") == TWENTY, seconds=8)
