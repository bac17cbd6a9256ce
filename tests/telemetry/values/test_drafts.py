"""Messages that wait for their tensors."""

from tensorboard_sidecar.protocol.messages import Text
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.telemetry.values.drafts import finished


def test_a_finished_message_waits_for_nothing() -> None:
    kind, tensors, build = finished(Text("t", "x"))
    assert (kind, list(tensors), build([])) == (Kind.TEXT, [], Text("t", "x"))
