import os
from pathlib import Path

import pytest

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.logger_service.folders.logger_lock import LOGGER_LOCK_NAME, folder_lock


def test_a_second_logger_is_refused_with_the_flag_the_folder_and_who_holds_it(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "--logdir"), pytest.raises(StartupError) as refusal, folder_lock(tmp_path, "--logdir"):
        pass
    assert str(refusal.value) == (
        f"--logdir {tmp_path} is written by another logger (process {os.getpid()});"
        " stop that one or choose another folder"
    )


def test_the_writer_of_a_folder_and_the_logger_that_it_works_for_do_not_exclude_each_other(tmp_path: Path) -> None:
    with folder_lock(tmp_path, "--logdir", LOGGER_LOCK_NAME), folder_lock(tmp_path, "--logdir"):
        pass
