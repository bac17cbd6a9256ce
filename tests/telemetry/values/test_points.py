"""Points with forms of their own, overlays, rows of hyperparameters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import LABEL_MAX_CHARACTERS, OVERLAY_CURVES_MAX
from tensorboard_sidecar.protocol.messages import HParams, Overlay, Point
from tensorboard_sidecar.protocol.names import check_run
from tensorboard_sidecar.telemetry.values.points import curve_folders, folder_in_run, hparams_row, overlays, point


def no_note(error: Exception) -> None:
    raise error


def test_a_point_has_its_form_and_names() -> None:
    draft = point("a", torch.tensor(0.5), "double", "shown", "*described*", no_note)
    assert draft.build([]) == Point("a", 0.5, "double", "shown", "*described*")


def test_a_display_name_that_is_too_long_is_cut() -> None:
    notes: list[Exception] = []
    made = point("a", 0.5, "simple", "x" * 5_000, "", notes.append).build([])
    assert isinstance(made, Point)
    assert len(made.display_name) == LABEL_MAX_CHARACTERS
    assert len(notes) == 1


def test_a_point_on_a_device_waits_for_its_value() -> None:
    draft = point("a", torch.zeros((), device="meta"), "float", "", "", no_note)
    assert draft.build([np.array([2.5], np.float32)]) == Point("a", 2.5, "float")


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=6, unique=True))
def test_each_curve_has_a_folder_of_its_own_in_the_runs_folder(main_tag: str, names: list[str]) -> None:
    folders = curve_folders(main_tag, dict.fromkeys(names, 0.0))
    assert list(folders) == names
    assert len(set(folders.values())) == len(names)
    assert all(check_run(folder) for folder in folders.values())


def test_folders_never_lead_out() -> None:
    assert folder_in_run("/etc/passwd") == "etc/passwd"
    assert folder_in_run("../../x") == "x"
    with pytest.raises(Malformed, match="names no folder"):
        folder_in_run("..")


def test_more_curves_than_a_record_holds_are_several_records() -> None:
    drafts = list(overlays("a", {str(number): 0.5 for number in range(OVERLAY_CURVES_MAX + 1)}))
    messages = [draft.build([]) for draft in drafts]
    assert [len(message.values) for message in messages if isinstance(message, Overlay)] == [OVERLAY_CURVES_MAX, 1]


def test_a_row_has_numbers_of_devices_too() -> None:
    metrics = {"a": 0.5, "b": torch.zeros((), device="meta")}
    draft = hparams_row({"lr": 0.1}, metrics, "row", {"lr": [1, 0.1]}, no_note)
    assert draft.build([np.array([2.5], np.float32)]) == HParams(
        {"lr": 0.1}, {"a": 0.5, "b": 2.5}, "row", {"lr": [1, 0.1]}
    )
