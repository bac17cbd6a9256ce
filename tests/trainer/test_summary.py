from pathlib import Path

from support.records import expected

from tensorboard_sidecar.trainer.summary import TrainingSummary


def test_summary_says_what_one_wants_to_know() -> None:
    recalls = {f"{name}/recall_at_1": 0.5 for name in expected.DIRECTIONS} | {"text_to_image/recall_at_1": 0.75}
    summary = TrainingSummary(
        run="flickr8k/now",
        epochs=10,
        global_step=160,
        best_validation_loss=2.0341,
        recall_at_1=0.542,
        recalls=recalls,
        diagonal_similarity=0.648,
        mean_similarity=0.012,
        chance=1 / 64,
        checkpoint_dir=Path("checkpoints/flickr8k/now"),
        step_cost_us_p50=14.4,
        step_cost_us_p99=8058.6,
        seconds=61.2,
    )
    text = "\n".join(summary.lines())
    for part in (
        "flickr8k/now",
        "10 epochs, 160 steps, 61 s",
        "best validation loss  2.034",
        "Recall@1              54.2%, chance is 1.6% (text to image 75%, text to audio 50%",
        "0.65 of matching pairs, 0.01 of all combinations",
        "checkpoints/flickr8k/now",
        "14 us a logged step (p50), 8.1 ms (p99: some steps also log",
    ):
        assert part in text
