"""Hyperparameters in the run's own file, so that the run itself is the session TensorBoard lists.

tensorboardX's own builder serialises maps in an order that changes from process to process; these bytes do not.
"""

from typing import Final

from tensorboardX.proto.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from tensorboard_sidecar.logger_service.events.values import Value, plugin_metadata, scalar_value
from tensorboard_sidecar.protocol.messages import HParams, ParameterValue

# Tags of tensorboard/plugins/hparams/metadata.py.
_EXPERIMENT_TAG: Final = "_hparams_/experiment"
_START_TAG: Final = "_hparams_/session_start_info"
_END_TAG: Final = "_hparams_/session_end_info"


def hparams_values(message: HParams) -> list[Value]:
    """Return experiment, start and end of the session, and one scalar a metric."""
    infos = [HParamInfo(name=name, type=_data_type(value)) for name, value in message.parameters.items()]
    metrics = [MetricInfo(name=MetricName(tag=tag)) for tag in message.metrics]
    return [
        _plugin_value(
            _EXPERIMENT_TAG, HParamsPluginData(experiment=Experiment(hparam_infos=infos, metric_infos=metrics))
        ),
        _plugin_value(_START_TAG, HParamsPluginData(session_start_info=_session_start(message.parameters))),
        _plugin_value(_END_TAG, HParamsPluginData(session_end_info=SessionEndInfo(status=Status.STATUS_SUCCESS))),
        *(scalar_value(tag, number) for tag, number in message.metrics.items()),
    ]


def _session_start(parameters: dict[str, ParameterValue]) -> SessionStartInfo:
    start = SessionStartInfo()
    for name, value in parameters.items():
        if isinstance(value, bool):
            start.hparams[name].bool_value = value
        elif isinstance(value, str):
            start.hparams[name].string_value = value
        else:
            start.hparams[name].number_value = value
    return start


def _data_type(value: ParameterValue) -> DataType:
    if isinstance(value, bool):
        return DataType.DATA_TYPE_BOOL
    return DataType.DATA_TYPE_STRING if isinstance(value, str) else DataType.DATA_TYPE_FLOAT64


def _plugin_value(tag: str, content: HParamsPluginData) -> Value:
    return Value(tag=tag, metadata=plugin_metadata("hparams", content.SerializeToString(deterministic=True)))
