"""Each hop that can fail, with a logger and a TensorBoard that fail on demand; the real ones are in tests/system."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.logger.fake_logger import FakeLogger
from support.running.fake_tensorboard import FakeTensorBoard, fake_tensorboard
from support.running.programs import free_port

from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import RunEnd, Scalars
from tensorboard_sidecar.protocol.wire import Hello, Reject, WireMessage
from tensorboard_sidecar.telemetry.probe import hops as hops_module
from tensorboard_sidecar.telemetry.probe.hops import TAG, Hop, Probe, Settings

SHORT_SECONDS = 0.5


@pytest.fixture
def board() -> Iterator[FakeTensorBoard]:
    with fake_tensorboard({"environment": {"data_location": "runs"}, "plugin/scalars/tags": {}}) as server:
        yield server


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no acknowledgement where none will come."""
    monkeypatch.setattr(hops_module, "ACK_SECONDS", SHORT_SECONDS)


@pytest.fixture(autouse=True)
def _temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def try_hops(endpoint: str, board: FakeTensorBoard, *, seconds: float = 20.0, **settings: Any) -> dict[str, Hop]:
    probe = Probe(Settings(endpoint, board.url, seconds=seconds, **settings), lambda _: None)
    return {hop.name: hop for hop in probe.hops()}


def works(hops: dict[str, Hop]) -> list[bool | None]:
    assert list(hops) == ["logger", "journal", "event file", "TensorBoard", "point shown"]
    return [hop.works for hop in hops.values()]


def show_point(board: FakeTensorBoard, probe: Probe) -> None:
    board.answers["plugin/scalars/tags"] = {probe.run: {TAG: {}}}
    board.answers["plugin/scalars/scalars"] = [[1.5, 1, probe._value]]


def test_a_point_that_arrives_is_shown_and_nothing_is_left_on_this_side(board: FakeTensorBoard, tmp_path: Path) -> None:
    with FakeLogger() as logger:
        probe = Probe(Settings(logger.endpoint, board.url), lambda _: None)
        show_point(board, probe)
        hops = {hop.name: hop for hop in probe.hops()}
        ((stream, _),) = logger.records.items()
        said = logger.messages(stream)
    assert works(hops) == [True] * 5
    assert hops["event file"].text == "TensorBoard has read it"
    assert [message for message in said if isinstance(message, Scalars)] == [Scalars({TAG: probe._value})]
    assert isinstance(said[-1], RunEnd)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("impatient")
def test_where_nothing_listens_it_says_how_to_start_a_logger(board: FakeTensorBoard, tmp_path: Path) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    hops = try_hops(endpoint, board, seconds=SHORT_SECONDS)
    assert works(hops) == [False, None, None, True, None]
    assert f"nothing listens at {endpoint}: start a logger there" in hops["logger"].text
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("impatient")
def test_a_socket_that_is_gone_is_where_nothing_listens(board: FakeTensorBoard, tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir(mode=0o700)
    hops = try_hops(f"ipc://{folder}/socket", board, seconds=SHORT_SECONDS)
    assert works(hops) == [False, None, None, True, None]
    assert "nothing listens" in hops["logger"].text


@pytest.mark.usefixtures("impatient")
def test_a_logger_that_hangs_acknowledges_nothing(board: FakeTensorBoard) -> None:
    with FakeLogger() as logger:
        logger.freeze()
        hops = try_hops(logger.endpoint, board, seconds=SHORT_SECONDS)
        logger.thaw()
    assert works(hops) == [True, False, None, True, None]
    assert "no acknowledgement within 0.5 s" in hops["journal"].text


@pytest.mark.parametrize("retry", [True, False])
def test_a_logger_that_refuses_the_run_is_quoted(board: FakeTensorBoard, retry: bool) -> None:
    def refuse(message: WireMessage) -> Sequence[WireMessage] | None:
        return [Reject("the disk is full", retry)] if isinstance(message, Hello) else None

    with FakeLogger(refuse) as logger:
        hops = try_hops(logger.endpoint, board, seconds=3.0)
    assert works(hops) == [True, False, None, True, None]
    assert "the disk is full" in hops["journal"].text


@pytest.mark.parametrize(
    ("lines", "keys", "reason"),
    [
        ([], False, ""),
        (["run of another logger", "tcp://b hangs up"], False, ""),
        (["tcp://a cannot be used; trying again"], False, "tcp://a cannot be used"),
        (["tcp://a speaks with keys", "tcp://a hangs up at once"], False, "tcp://a speaks with keys"),
        (["tcp://a hangs up at once"], True, "tcp://a hangs up at once"),
        (
            ["tcp://a hangs up at once; what is recorded waits, and it is tried again"],
            False,
            "tcp://a hangs up at once, or it speaks with keys: give --server_key and --client_key",
        ),
    ],
)
def test_the_reason_is_what_the_client_says_of_the_logger(lines: list[str], keys: bool, reason: str) -> None:
    assert hops_module._why(lines, "tcp://a", keys=keys) == reason


def test_a_point_that_comes_to_no_event_file_is_said(board: FakeTensorBoard, tmp_path: Path) -> None:
    with FakeLogger() as logger:
        hops = try_hops(logger.endpoint, board, seconds=SHORT_SECONDS, logdir=tmp_path / "runs")
    assert works(hops) == [True, True, False, True, None]
    assert "no point in" in hops["event file"].text


def test_a_point_in_the_event_file_is_found_there(board: FakeTensorBoard, tmp_path: Path) -> None:
    with FakeLogger() as logger:
        probe = Probe(Settings(logger.endpoint, board.url, tmp_path, seconds=SHORT_SECONDS), lambda _: None)
        folder = tmp_path / probe.run
        folder.mkdir(parents=True)
        (folder / "events.out.tfevents.1").write_bytes(pack_frame(f"..{TAG}..".encode()))
        hops = {hop.name: hop for hop in probe.hops()}
    assert works(hops) == [True, True, True, True, False]
    assert hops["event file"].text == str(folder)


def test_a_tensorboard_that_does_not_show_the_point_is_said(board: FakeTensorBoard) -> None:
    with FakeLogger() as logger:
        hops = try_hops(logger.endpoint, board, seconds=SHORT_SECONDS)
        board.answers["plugin/scalars/tags"] = 500
        again = try_hops(logger.endpoint, board, seconds=SHORT_SECONDS)
    assert works(hops) == works(again) == [True, True, None, True, False]
    assert "start TensorBoard with the logger's --logdir" in hops["point shown"].text
    assert "answers 500" in again["point shown"].text


def test_without_a_tensorboard_it_says_how_to_start_one(board: FakeTensorBoard) -> None:
    settings = Settings("", f"http://127.0.0.1:{free_port()}", seconds=SHORT_SECONDS)
    with FakeLogger() as logger:
        hops = {hop.name: hop for hop in Probe(settings._replace(endpoint=logger.endpoint), lambda _: None).hops()}
        board.answers["environment"] = b"hello"
        other = try_hops(logger.endpoint, board, seconds=SHORT_SECONDS)
    assert works(hops) == works(other) == [True, True, None, False, None]
    assert "tensorboard --logdir DIR" in hops["TensorBoard"].text
    assert "is no TensorBoard" in other["TensorBoard"].text


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"endpoint": "nonsense"}, "expected the logger's address"),
        ({"endpoint": "tcp://example.com:5555"}, "needs keys"),
        ({"tensorboard": "localhost"}, "expected something like"),
        ({"seconds": 0.0}, "--seconds"),
        ({"seconds": float("nan")}, "--seconds"),
        ({"server_key": "no/such/file", "client_key": "no/such/file"}, "no/such/file"),
    ],
)
def test_settings_that_no_trainer_could_use_are_refused(settings: dict[str, Any], reason: str) -> None:
    given = {"endpoint": "tcp://127.0.0.1:5555", "tensorboard": "http://127.0.0.1:6006"} | settings
    with pytest.raises((ValueError, OSError), match=reason):
        list(Probe(Settings(**given), lambda _: None).hops())
