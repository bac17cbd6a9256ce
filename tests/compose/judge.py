"""What there must be of a run, however often its containers were killed."""

from pathlib import Path

from support.records import expected
from support.records.events import load_folder, values_by_tag
from support.running.compose import Compose
from support.running.programs import run_command
from support.running.tensorboard import TensorBoard

from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.messages import Scalars
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader

RUN = "compose/run"
LOG_INTERVAL = 2
STEPS_AN_EPOCH = 6
"""48 of 60 pictures are for training, in batches of 8."""


def shown_steps(tensorboard: TensorBoard, tag: str) -> list[int]:
    """Return the steps at which TensorBoard shows a scalar."""
    return [point[1] for point in tensorboard.get("plugin/scalars/scalars", run=RUN, tag=tag)]


def check(compose: Compose, folder: Path, *, epochs: int, attempts: int) -> None:
    """Hold recordings, event files and TensorBoard of an ended run against each other; ``folder`` takes a replay."""
    last = epochs * STEPS_AN_EPOCH
    _wait_until_drawn(compose.tensorboard, last)
    recordings, logdir = compose.copy("logger", "/recordings"), compose.copy("logger", "/runs")
    verified = run_command("verify", recordings, logdir)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    recorded = sorted(steps for stream in recordings.glob(f"{RUN}/*") if (steps := _logged(stream)))
    assert len(recorded) == attempts
    for steps in recorded:
        assert steps == list(range(steps[0], steps[-1] + 1, LOG_INTERVAL)), "a point is missing, or comes twice"
    every_step = list(range(LOG_INTERVAL, last + 1, LOG_INTERVAL))
    assert sorted({step for steps in recorded for step in steps}) == every_step

    shown = [step for step, _ in values_by_tag(logdir / RUN)["loss/train/total"]]
    assert sorted(shown) == sorted(step for steps in recorded for step in steps)
    replayed = run_command("replay", recordings, "--logdir", folder / "replayed")
    assert replayed.returncode == 0, replayed.stderr
    live, again = load_folder(logdir / RUN), load_folder(folder / "replayed" / RUN)
    assert [event.SerializeToString() for event in live] == [event.SerializeToString() for event in again]

    check_tensorboard(compose.tensorboard, epochs)


def check_tensorboard(tensorboard: TensorBoard, epochs: int) -> None:
    """See that TensorBoard's API returns every tag, with as many points as there were."""
    last = epochs * STEPS_AN_EPOCH
    _wait_until_drawn(tensorboard, last)
    for tag in expected.EACH_LOG_INTERVAL:
        assert shown_steps(tensorboard, tag) == list(range(LOG_INTERVAL, last + 1, LOG_INTERVAL)), tag
    for tag in expected.EACH_EPOCH:
        assert shown_steps(tensorboard, tag) == list(range(STEPS_AN_EPOCH, last + 1, STEPS_AN_EPOCH)), tag
    images = tensorboard.get("plugin/images/tags")[RUN]
    assert set(images) == {*expected.IMAGES_EACH_EPOCH, *expected.OVERVIEWS}
    for plugin, tag in (("text", "samples/captions"), ("audio", "samples/audio")):
        assert tag in tensorboard.get(f"plugin/{plugin}/tags")[RUN]
    for plugin in ("histograms", "distributions"):
        tags = set(tensorboard.get(f"plugin/{plugin}/tags")[RUN])
        weights = {tag.removeprefix("weights/") for tag in tags if tag.startswith("weights/")}
        assert len(weights) > 50
        assert tags == {f"{kind}/{name}" for kind in ("weights", "gradients") for name in weights}
    embeddings = tensorboard.get("plugin/projector/info", run=RUN)["embeddings"]
    assert {embedding["tensorName"].split()[0] for embedding in embeddings} == set(expected.PROJECTOR)
    assert RUN in tensorboard.get("plugin/graphs/info")
    assert {"hparam/best_val_loss", "hparam/recall_at_1"} <= tensorboard.get("plugin/scalars/tags")[RUN].keys()
    layout = tensorboard.get("plugin/custom_scalars/layout")
    assert {category["title"] for category in layout["category"]} == set(expected.LAYOUT)


def _wait_until_drawn(tensorboard: TensorBoard, last: int) -> None:
    """Wait for the step at which the run was completed: a trainer has ended before all that it said is drawn."""

    def ended(tensorboard: TensorBoard) -> bool:
        told = tensorboard.get("plugin/text/text", run=RUN, tag="run/status")
        return any(status["step"] == last and "completed" in status["text"] for status in told)

    tensorboard.wait_for("the run's last record", ended)


def _logged(folder: Path) -> list[int]:
    """Return the steps at which a stream holds the training loss, in order."""
    reader, steps = RecordingReader(folder), []
    while records := reader.read():
        for record in records:
            message = decode_message(record)
            if isinstance(message, Scalars) and "loss/train/total" in message.values:
                steps.append(record.step)
    reader.close()
    return steps
