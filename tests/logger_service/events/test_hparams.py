from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from tensorboard_sidecar.logger_service.events.hparams import hparams_values
from tensorboard_sidecar.protocol.messages import HParams

MESSAGE = HParams({"lr": 0.1, "epochs": 3, "compile": True, "precision": "bf16"}, {"best": 0.5, "recall": 1.0})


def test_parameters_keep_their_types() -> None:
    start = HParamsPluginData.FromString(hparams_values(MESSAGE)[1].metadata.plugin_data.content).session_start_info
    parameters = start.hparams
    assert parameters["lr"].number_value == 0.1
    assert parameters["epochs"].number_value == 3.0
    assert parameters["compile"].bool_value is True
    assert parameters["precision"].string_value == "bf16"


def test_every_metric_is_named_and_has_a_scalar() -> None:
    values = hparams_values(MESSAGE)
    experiment = HParamsPluginData.FromString(values[0].metadata.plugin_data.content).experiment
    assert [info.name.tag for info in experiment.metric_infos] == ["best", "recall"]
    assert [(value.tag, value.simple_value) for value in values[3:]] == [("best", 0.5), ("recall", 1.0)]


def test_no_time_is_told() -> None:
    """The times of a session would be the logger's clock; replay must give the same bytes."""
    start, end = (
        HParamsPluginData.FromString(value.metadata.plugin_data.content) for value in hparams_values(MESSAGE)[1:3]
    )
    assert start.session_start_info.start_time_secs == 0
    assert end.session_end_info.end_time_secs == 0
