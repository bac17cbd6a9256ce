"""The mark, with a disk that is what the test says."""

import shutil
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.folders.low_water import (
    LOOK_SECONDS,
    RESERVE_BYTES,
    DiskSpace,
    LowWater,
    measure_disk,
)
from tensorboard_sidecar.logger_service.intake.credit import equal_share_bytes
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES

MIB = 2**20


class Disk:
    """A disk whose free space is set; counts how often it was asked."""

    def __init__(self, free_bytes: int, total_bytes: int = 2**40) -> None:
        self.free_bytes, self.total_bytes = free_bytes, total_bytes
        self.looks = 0

    def measure(self) -> DiskSpace | None:
        self.looks += 1
        return DiskSpace(self.free_bytes, self.total_bytes)


def credit_bytes(low_water: LowWater, streams: int) -> int:
    return equal_share_bytes(streams, low_water.room_bytes, disk_is_low=low_water.low)


def test_below_the_reserve_there_is_no_credit_and_a_quarter_above_it_there_is_again() -> None:
    disk = Disk(1000 * MIB)
    low_water = LowWater(disk.measure, 100 * MIB)
    changes = []
    for now, free_mib in enumerate((1000, 100, 99, 100, 124, 125, 101, 0)):
        disk.free_bytes = free_mib * MIB
        changed = low_water.look(now * LOOK_SECONDS)
        changes.append((changed, low_water.low))
        assert (credit_bytes(low_water, 1) == 0) == low_water.low
    assert changes == [
        (False, False),
        (False, False),
        (True, True),
        (False, True),
        (False, True),
        (True, False),
        (False, False),
        (True, True),
    ]


def test_the_disk_is_looked_at_once_a_second_and_no_message_asks_it() -> None:
    disk = Disk(2**40)
    low_water = LowWater(disk.measure, 100 * MIB)
    for step in range(1000):
        low_water.look(step / 1000)
        credit_bytes(low_water, 3)
    assert disk.looks == 1
    low_water.look(LOOK_SECONDS)
    assert disk.looks == 2


def test_it_is_looked_at_earlier_when_a_quarter_of_the_room_was_written() -> None:
    """A fast disk fills in less than a second."""
    disk = Disk(500 * MIB)
    low_water = LowWater(disk.measure, 100 * MIB)
    low_water.look(0.0)
    disk.free_bytes = 50 * MIB
    assert not low_water.look(0.1, 100 * MIB - 1)
    assert low_water.look(0.1, 100 * MIB)
    assert low_water.low


@pytest.mark.parametrize(
    ("total_bytes", "reserve_bytes"), [(2**40, RESERVE_BYTES), (1000 * MIB, 50 * MIB), (64 * MIB, 64 * MIB // 20)]
)
def test_the_default_is_256_mib_or_5_percent_of_a_small_disk(total_bytes: int, reserve_bytes: int) -> None:
    low_water = LowWater(Disk(total_bytes, total_bytes).measure)
    low_water.look(0.0)
    assert low_water.reserve_bytes == reserve_bytes
    assert not low_water.low


def test_what_all_streams_have_on_their_way_fits_into_the_room() -> None:
    disk = Disk(140 * MIB)
    low_water = LowWater(disk.measure, 100 * MIB)
    low_water.look(0.0)
    assert credit_bytes(low_water, 1) == 40 * MIB
    assert credit_bytes(low_water, 4) == 10 * MIB
    assert credit_bytes(low_water, 0) == 40 * MIB
    assert credit_bytes(low_water, 10_000) == BATCH_SIZE_MAX_BYTES, "one batch, or nobody gets on"
    disk.free_bytes = 2**40
    low_water.look(LOOK_SECONDS)
    assert credit_bytes(low_water, 4) == CREDIT_BYTES


def test_without_a_mark_nothing_is_ever_low() -> None:
    low_water = LowWater(Disk(0).measure, 0)
    assert not low_water.look(0.0)
    assert not low_water.low
    assert credit_bytes(low_water, 1) == CREDIT_BYTES


def test_a_disk_that_does_not_tell_has_room() -> None:
    low_water = LowWater(lambda: None)
    assert not low_water.look(0.0)
    assert credit_bytes(low_water, 1) == CREDIT_BYTES
    assert "unknown free on the disk" in str(low_water)


def test_a_disk_tells_its_space(tmp_path: Path) -> None:
    space = measure_disk(tmp_path)
    assert space is not None
    assert 0 <= space.free_bytes <= space.total_bytes
    assert space.total_bytes == shutil.disk_usage(tmp_path).total


def test_what_does_not_tell_is_none(tmp_path: Path) -> None:
    """Neither a folder that is gone, nor a file system without blocks."""
    assert measure_disk(tmp_path / "gone") is None
    assert measure_disk(Path("/proc")) is None
