"""The drop-in ``SummaryWriter``: its constructor, its folder, its end and its next beginning; here without a helper."""

import copy
import inspect
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Final

import pytest
from support.machine.children import fork
from support.records.recordings import Said
from support.running.spoken import read_said
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from tensorboardX import SummaryWriter as TheirWriter
from torch.utils.tensorboard import SummaryWriter as TorchWriter

from tensorboard_sidecar import SummaryWriter
from tensorboard_sidecar.logger_service.projection.replay import replay
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import SESSION_START, Event, RunEnd, RunStart, Scalars
from tensorboard_sidecar.protocol.names import RECORDING_NAME
from tensorboard_sidecar.telemetry import opening, silent, summary_writer
from tensorboard_sidecar.telemetry.opening import LOGGER_VARIABLE

START: Final = 1_700_000_000.0


@pytest.fixture(autouse=True)
def _without_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOGGER_VARIABLE, "off")


def recordings(folder: Path) -> list[Path]:
    return sorted((folder / RECORDING_NAME).rglob("stream-*"))


def values(recording: Path) -> list[dict[str, float]]:
    return [said.message.values for said in read_said(recording) if isinstance(said.message, Scalars)]


def test_the_parameters_are_those_of_torch_and_of_tensorboardx_in_their_order() -> None:
    own = list(inspect.signature(SummaryWriter).parameters)
    assert own[:9] == list(inspect.signature(TheirWriter.__init__).parameters)[1:10]
    torch_names = list(inspect.signature(TorchWriter.__init__).parameters)[1:]
    assert own[1 : len(torch_names)] == torch_names[1:]
    assert "log_dir" in own


def test_a_folder_is_made_at_once_and_holds_the_recording(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path / "deep" / "folder")
    assert (tmp_path / "deep" / "folder").is_dir()
    writer.add_scalar("loss", 0.5, 1)
    writer.close()
    [recording] = recordings(tmp_path / "deep" / "folder")
    said = read_said(recording)
    assert said[0].message == RunStart(0, {}, continues=True)
    assert said[-1].message == RunEnd("completed", plain=True)


def test_without_a_folder_the_name_is_torchs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SummaryWriter(comment="_lr=0.1") as writer:
        name = writer.get_logdir()
    assert re.fullmatch(r"runs/[A-Z][a-z]{2}\d\d_\d\d-\d\d-\d\d_.+_lr=0\.1", name)
    assert recordings(tmp_path / name)


@pytest.mark.parametrize("given", ["", None])
def test_an_empty_folder_counts_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    with SummaryWriter(given) as writer:
        assert writer.log_dir.startswith("runs/")
    with SummaryWriter(None, log_dir="here") as writer:
        assert writer.log_dir == "here"


def test_the_home_folder_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with SummaryWriter("~/runs", record="~/records"):
        pass
    assert (tmp_path / "runs").is_dir()
    assert list((tmp_path / "records").rglob("stream-*"))


def test_a_program_may_change_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = SummaryWriter("runs/../here")
    monkeypatch.chdir("/")
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    writer.add_scalar("loss", 2.0, 2)
    writer.close()
    assert len(recordings(tmp_path / "here")) == 2
    assert writer.log_dir == "runs/../here"


@pytest.mark.parametrize("url", ["s3://bucket/runs", "gs://bucket", "hdfs://namenode:8020/x", "file:///tmp/x"])
def test_an_address_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(ValueError, match=f"log_dir '{url}'; expected a folder on this machine"):
        SummaryWriter(url)


@pytest.mark.parametrize("given", [5, ["runs"], object()])
def test_what_is_no_path_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError):
        SummaryWriter(given)


def test_a_path_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="null byte"):
        SummaryWriter("a\0b")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for given in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError, match="Not a directory"):
            SummaryWriter(given)


def test_a_name_that_is_too_long_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        SummaryWriter(tmp_path / ("x" * 256))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may change the user")
@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_may_not_be_written_is_a_permission_error(below: str, memory: Path) -> None:
    """As torch's, at the constructor: a training that could not log would end hours later."""
    memory.chmod(0o755)
    (memory / "closed").mkdir(mode=0o755)
    (memory / "out").mkdir()
    (memory / "out").chmod(0o777)

    def as_another_user() -> None:
        os.setuid(65_534)
        os.environ["TENSORBOARD_SIDECAR_OUTBOX_DIR"] = str(memory / "out")
        with pytest.raises(PermissionError):
            SummaryWriter(memory / "closed" / below)

    assert fork(as_another_user) == 0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"close_seconds": -1}, ValueError),
        ({"close_seconds": "soon"}, TypeError),
        ({"purge_step": "all"}, TypeError),
        ({"purge_step": 2**60}, ProtocolError),
        ({"endpoint": "nonsense"}, ValueError),
        ({"record": "x", "endpoint": "tcp://nohost"}, ValueError),
    ],
)
def test_a_wrong_setting_is_an_error_at_once(tmp_path: Path, settings: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        SummaryWriter(tmp_path, **settings)
    assert not opening._FOLDERS.open


def test_after_the_close_the_next_call_opens_again_and_earlier_steps_stand(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path, purge_step=5)
    writer.add_scalar("loss", 1.0, 5)
    for _ in range(2):
        writer.close()
        writer.flush()
        writer.flush(wait=True)
    assert len(recordings(tmp_path)) == 1
    writer.add_scalar("loss", 2.0, 6)
    writer.close()
    said = [read_said(found) for found in recordings(tmp_path)]
    assert [each[0].message for each in said] == 2 * [RunStart(0, {}, continues=True)]
    assert [said.count(Said(5, Event(SESSION_START))) for said in sorted(said, key=len)] == [0, 1]


def test_a_writer_that_cannot_be_opened_again_raises_nothing_into_the_loop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = SummaryWriter(tmp_path / "folder")
    writer.close()
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").touch()
    writer.add_scalar("loss", 1.0, 1)
    writer.add_text("notes", "x", 1)
    assert [message for message in caplog.messages if "Not a directory" in message]
    (tmp_path / "folder").unlink()
    writer.add_scalar("loss", 2.0, 2)
    writer.close()
    [recording] = recordings(tmp_path / "folder")
    assert values(recording) == [{"loss": 2.0}]


@pytest.mark.parametrize("purge_step", [-3, 0, 1, 5])
def test_a_purge_is_kept_also_where_another_writer_has_the_folder_open(tmp_path: Path, purge_step: int) -> None:
    first = SummaryWriter(tmp_path)
    first.add_scalar("loss", 1.0, 7)
    second = SummaryWriter(tmp_path, purge_step=purge_step)
    second.add_scalar("loss", 2.0, 8)
    second.close()
    first.close()
    [recording] = recordings(tmp_path)
    assert read_said(recording)[1:-1] == [
        Said(7, Scalars({"loss": 1.0})),
        Said(purge_step, Event(SESSION_START)),
        Said(8, Scalars({"loss": 2.0})),
    ]


def log_and_purge(make: Callable[..., Any], folder: Path, purge_step: int, *, together: bool) -> None:
    first = make(folder, purge_step=0)  # TensorBoard's slow loader ignores the first start of a session
    for step in range(-2, 4):
        first.add_scalar("again", step, step, START)
        first.add_scalar("once", step, step, START)
    first.flush()
    if not together:
        first.close()
    second = make(folder, purge_step=purge_step)
    second.add_scalar("again", 100.0, max(purge_step, 0) + 1, START)
    second.close()
    first.close()


def shown_points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the points that TensorBoard's slow loader shows."""
    loader = EventAccumulator(str(folder))
    loader.Reload()
    return {
        tag: [(event.step, float(make_ndarray(event.tensor_proto))) for event in loader.Tensors(tag)]
        for tag in loader.Tags()["tensors"]
    }


@pytest.mark.parametrize("together", [False, True], ids=["one after the other", "both open"])
@pytest.mark.parametrize("purge_step", [-1, 0, 1, 2])
def test_tensorboard_drops_the_steps_that_it_drops_of_torchs_writer(
    tmp_path: Path, purge_step: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = count(int(START))
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))  # in the names of torch's event files
    log_and_purge(TorchWriter, tmp_path / "torch", purge_step, together=together)
    monkeypatch.undo()
    monkeypatch.setenv(LOGGER_VARIABLE, "off")
    log_and_purge(SummaryWriter, tmp_path / "ours", purge_step, together=together)
    replay([tmp_path / "ours" / RECORDING_NAME], tmp_path / "ours")
    expected = shown_points(tmp_path / "torch")
    assert [step for step, _ in expected["once"]] == list(range(-2, purge_step))
    assert shown_points(tmp_path / "ours") == expected


def test_threads_that_open_again_open_once(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path)
    writer.close()
    begin = threading.Barrier(8)

    def log(number: int) -> None:
        begin.wait()
        writer.add_scalar(f"loss/{number}", 1.0, 1)

    threads = [threading.Thread(target=log, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert not opening._FOLDERS.open
    assert sorted(len(values(found)) for found in recordings(tmp_path)) == [0, 8]


def test_writers_on_one_folder_share_a_telemetry_until_the_last_one_closes(tmp_path: Path) -> None:
    one, two = SummaryWriter(tmp_path), SummaryWriter(f"{tmp_path}/sub/..")
    one.add_scalar("a", 1.0, 1)
    one.close()
    two.add_scalar("b", 1.0, 1)
    two.close()
    [recording] = recordings(tmp_path)
    assert values(recording) == [{"a": 1.0}, {"b": 1.0}]


def test_the_close_of_one_of_two_writers_keeps_no_other_writer_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close waits for the event files; the constructors of other threads must not."""
    one, two = SummaryWriter(tmp_path / "a"), SummaryWriter(tmp_path / "a")
    waits, go_on = threading.Event(), threading.Event()

    def show(_telemetry: object, _seconds: float = 0.0) -> bool:
        waits.set()
        return go_on.wait(30)

    monkeypatch.setattr(summary_writer.Telemetry, "show", show)
    closes = threading.Thread(target=one.close)
    closes.start()
    assert waits.wait(30)
    SummaryWriter(tmp_path / "b").close()
    go_on.set()
    closes.join()
    two.close()


def test_a_signal_handler_may_close_a_writer_while_another_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the handlers of batch systems do; the handler runs on the thread that makes the other writer."""
    writer = SummaryWriter(tmp_path / "a")
    make = opening.Opening._make

    def interrupted(self: opening.Opening) -> summary_writer.Telemetry:
        if self.folder.name == "b":
            writer.close()
        return make(self)

    monkeypatch.setattr(opening.Opening, "_make", interrupted)
    SummaryWriter(tmp_path / "b").close()
    assert not opening._FOLDERS.open


def test_a_with_block_tells_how_it_ended(tmp_path: Path) -> None:
    for name, error, status in (("a", ValueError(), "failed"), ("b", KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(error)), SummaryWriter(tmp_path / name):
            raise error
        assert read_said(tmp_path / name)[-1].message == RunEnd(status, plain=True)


def test_a_writer_cannot_be_sent_or_copied(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path) as writer:
        for send in (ForkingPickler.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="make a new SummaryWriter there"):
                send(writer)
        assert repr(writer) == f"<SummaryWriter {tmp_path}>"


def test_a_forked_child_has_a_stream_of_its_own_in_a_folder_of_its_own(tmp_path: Path) -> None:
    writer = SummaryWriter(tmp_path)
    writer.add_scalar("loss", 1.0, 1)

    def child() -> None:
        writer.add_scalar("child", 1.0, 1)
        assert writer.telemetry._pipeline.stream.rank == os.getpid() % 2**31
        with SummaryWriter(tmp_path) as again:
            again.add_scalar("child", 2.0, 2)
        with SummaryWriter(tmp_path / "other") as other:
            assert other.telemetry._pipeline.stream.rank == 0
        writer.close()

    assert fork(child) == 0
    writer.add_scalar("loss", 2.0, 2)
    writer.close()
    kept = sorted(map(values, recordings(tmp_path)), key=str)
    assert kept == [[{"child": 1.0}, {"child": 2.0}], [{"loss": 1.0}, {"loss": 2.0}]]


def test_a_child_that_repeats_the_line_of_its_parent_opens_at_its_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As a spawned child does while it imports the main module: the parent writes to the folder."""
    monkeypatch.setattr(opening, "child_is_starting", lambda: True)
    monkeypatch.setattr("tensorboard_sidecar.telemetry.telemetry.child_is_starting", lambda: True)
    writer = SummaryWriter(tmp_path / "first")
    assert not (tmp_path / "first").exists()
    assert caplog.records == []
    writer.add_scalar("while/importing", 1.0, 1)
    writer.add_scalar("while/importing", 1.0, 2)
    assert len([record for record in caplog.records if "keeps nothing" in record.getMessage()]) == 2
    monkeypatch.undo()
    monkeypatch.setenv(LOGGER_VARIABLE, "off")
    assert not silent.child_is_starting()
    assert not opening._FOLDERS.open
    writer.add_scalar("loss", 1.0, 1)
    assert writer.telemetry._pipeline.stream.rank == os.getpid() % 2**31
    writer.close()
    assert [values(found) for found in recordings(tmp_path / "first")] == [[{"loss": 1.0}]]


def test_a_writer_to_no_disk_makes_no_folder_and_takes_every_call(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), SummaryWriter(tmp_path / "none", write_to_disk=False, strict=True) as writer:
        writer.add_scalar("loss", 1.0, 1)
        writer.add_scalar("loss", "rubbish", "rubbish")  # type: ignore[arg-type] - of any kind
        writer.flush(wait=True)
        assert writer.telemetry.is_shown
    assert list(tmp_path.iterdir()) == []
    assert caplog.records == []


@pytest.mark.parametrize("name", ["#1 + 50%", "rank-1", "~", ".hidden", os.fsdecode(b"\xff"), "x" * 255, " "])
def test_the_name_of_a_folder_needs_no_remark(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """TensorBoard shows the folder; the name of the run in the recording is seen by nobody."""
    with SummaryWriter(tmp_path / name) as writer:
        writer.add_scalar("loss", 1.0, 1)
    assert recordings(tmp_path / name)
    assert caplog.records == []


def test_a_recording_that_is_not_kept_leaves_those_of_others(tmp_path: Path) -> None:
    with SummaryWriter(tmp_path, keep_recording=False):
        pass
    assert list(tmp_path.iterdir()) == []
    with SummaryWriter(tmp_path):
        pass
    (tmp_path / RECORDING_NAME / ".tensorboard-sidecar.lock").touch()
    with SummaryWriter(tmp_path, keep_recording=False):
        pass
    assert len(recordings(tmp_path)) == 1
    assert (tmp_path / RECORDING_NAME / ".tensorboard-sidecar.lock").exists()


@pytest.mark.parametrize("logger", ["off", " OFF ", "none"])
def test_off_is_written_in_any_way(logger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOGGER_VARIABLE, logger)
    for record in (None, tmp_path / "elsewhere"):
        with SummaryWriter(tmp_path / "first", record=record) as writer:
            writer.add_scalar("loss", 1.0, 1)
    assert len(recordings(tmp_path / "first")) == 1
    assert len(list((tmp_path / "elsewhere").rglob("stream-*"))) == 1


def test_the_example_ends_a_process_without_a_warning(tmp_path: Path) -> None:
    """With no close at all: the exit of the interpreter closes the writer."""
    program = "from tensorboard_sidecar import SummaryWriter\nSummaryWriter('x').add_scalar('loss', 1.0, 1)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert values(recordings(tmp_path / "x")[0]) == [{"loss": 1.0}]
