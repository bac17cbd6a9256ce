import shutil
from pathlib import Path

from tensorboard_sidecar.logger_service.folders.disk_space import measure_disk


def test_a_disk_tells_its_space(tmp_path: Path) -> None:
    space = measure_disk(tmp_path)
    assert space is not None
    assert 0 <= space.free_bytes <= space.total_bytes
    assert space.total_bytes == shutil.disk_usage(tmp_path).total


def test_what_does_not_tell_is_none(tmp_path: Path) -> None:
    """Neither a folder that is gone, nor a file system without blocks."""
    assert measure_disk(tmp_path / "gone") is None
    assert measure_disk(Path("/proc")) is None
