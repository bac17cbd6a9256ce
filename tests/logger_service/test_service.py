"""Where a logger looks and listens, given what it was told; ``serve`` as a process is in tests/system/."""

from http import HTTPStatus
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service import service
from tensorboard_sidecar.logger_service.service import _open_page, _outbox_roots
from tensorboard_sidecar.protocol.outbox.outbox_files import spill_root


def test_outboxes_are_looked_for_where_this_users_trainers_make_them(
    outboxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _outbox_roots(None) == [outboxes, spill_root()]
    assert _outbox_roots("none") == []
    monkeypatch.chdir(tmp_path)
    assert _outbox_roots("here") == [tmp_path / "here"]


def test_a_folder_that_is_somebody_elses_is_not_looked_into(outboxes: Path, caplog: pytest.LogCaptureFixture) -> None:
    outboxes.chmod(0o777)
    assert _outbox_roots(None) == [spill_root()]
    assert f"in one folder are not adopted: {outboxes} is not a private folder" in caplog.text


def test_there_is_no_page_when_none_is_wanted() -> None:
    assert _open_page("none") is None


def test_a_page_at_any_free_port_tells_where(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    page = _open_page("127.0.0.1:*")
    assert page is not None
    assert page.answer("/healthz")[0] == HTTPStatus.SERVICE_UNAVAILABLE, "the logger is starting"
    page.close()
    assert f"health at http://{page.address}/healthz" in caplog.text
    assert not page.address.endswith(":0")


def test_the_name_of_the_recordings_is_durable_whoever_made_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder above that may not be read, or not be synced, is somebody else's."""
    synced = []

    def sync_folder(folder: Path) -> None:
        synced.append(folder)
        if folder == tmp_path.parent:
            raise PermissionError

    monkeypatch.setattr(service, "sync_folder", sync_folder)
    service._sync_above(tmp_path / "deep" / "recordings")
    assert synced == list((tmp_path / "deep" / "recordings").resolve().parents)
