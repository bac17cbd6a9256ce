"""What TensorBoard answers, and what answers that is no TensorBoard."""

from typing import Any

import pytest
from support.running.fake_tensorboard import fake_tensorboard
from support.running.programs import free_port

from tensorboard_sidecar.telemetry.probe.tensorboard import NoTensorBoard, TensorBoard

RUN, TAG, VALUE = "doctor/1234abcd", "doctor/probe", 77.0
POINTS = [[1.5, 1, VALUE]]


def answers(**changed: Any) -> dict[str, Any]:
    known = {
        "environment": {"data_location": "runs"},
        "plugin/scalars/tags": {"other": {TAG: {}}, f"deeper/{RUN}": {TAG: {}}},
        "plugin/scalars/scalars": POINTS,
    }
    return known | {name.replace("_", "/"): answer for name, answer in changed.items()}


def test_the_folder_and_the_point_are_found() -> None:
    with fake_tensorboard(answers()) as server:
        board = TensorBoard(f"{server.url}/")
        assert board.data_location() == "runs"
        assert board.find_point(RUN, TAG, VALUE)
        assert "run=deeper%2Fdoctor%2F1234abcd&tag=doctor%2Fprobe" in server.asked[-1]


@pytest.mark.parametrize(
    "changed",
    [
        {"plugin_scalars_tags": {}},
        {"plugin_scalars_tags": {f"not-{RUN}": {TAG: {}}}},
        {"plugin_scalars_tags": {RUN: {"another": {}}}},
        {"plugin_scalars_tags": {RUN: None}},
        {"plugin_scalars_scalars": [[1.5, 1, VALUE + 1]]},
        {"plugin_scalars_scalars": []},
        {"plugin_scalars_scalars": {"a": 1}},
        {"plugin_scalars_scalars": 404},
        {"plugin_scalars_scalars": 400},
    ],
)
def test_a_point_that_is_not_there_yet_is_no_error(changed: dict[str, Any]) -> None:
    with fake_tensorboard(answers(**changed)) as server:
        assert not TensorBoard(server.url).find_point(RUN, TAG, VALUE)


@pytest.mark.parametrize("answer", [404, 500, b"<html>hello</html>", b"\xff\xfe", [], {"a": 1}])
def test_what_is_no_tensorboard_is_named(answer: Any) -> None:
    with fake_tensorboard(answers(environment=answer)) as server, pytest.raises(NoTensorBoard, match="127"):
        TensorBoard(server.url).data_location()


def test_a_tensorboard_without_scalars_is_named() -> None:
    with fake_tensorboard(answers(plugin_scalars_tags=[1])) as server, pytest.raises(NoTensorBoard, match="scalars"):
        TensorBoard(server.url).find_point(RUN, TAG, VALUE)


def test_where_nothing_answers_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="refused"):
        TensorBoard(f"http://127.0.0.1:{free_port()}").data_location()


@pytest.mark.parametrize("url", ["localhost:6006", "file:///etc/passwd", "ftp://host", "http://", ""])
def test_a_url_that_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected something like http"):
        TensorBoard(url)
