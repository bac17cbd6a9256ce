"""The roles of the tags that frameworks and trainers log by default."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.logger_service.findings.roles import (
    Role,
    is_metric,
    is_similarity,
    role_of_curve,
    role_of_summary,
    subject,
)
from tensorboard_sidecar.trainer.evaluation import DIRECTIONS, MODALITY_PAIRS, RANKS
from tensorboard_sidecar.trainer.losses import Losses
from tensorboard_sidecar.trainer.model import SPACES

REFERENCE: Final[dict[str, Role | None]] = {
    **{f"loss/train/{name}": Role.LOSS for name in Losses._fields},
    **{f"loss/val/{name}": Role.VALIDATION_LOSS for name in Losses._fields},
    "loss/train/epoch_mean": Role.LOSS,
    "loss/train/epoch_std": None,
    "optimization/lr": Role.LEARNING_RATE,
    "optimization/grad_norm": Role.GRADIENT_NORM,
    "optimization/grad_norm_clipped": Role.CLIPPED_NORM,
    "optimization/temperature": Role.TEMPERATURE,
    **{f"embeddings/{space}/{name}": None for space in SPACES for name in ("mean", "std")},
    **{f"embeddings/{space}/norm": Role.EMBEDDING_NORM for space in SPACES},
    **{f"embeddings/{space}/dimension_std": Role.DIMENSION_STD for space in SPACES},
    **{f"alignment/{a}_vs_{b}/{name}_similarity": None for a, b in MODALITY_PAIRS for name in ("diagonal", "mean")},
    **{f"retrieval/{a}_to_{b}/recall_at_{k}": Role.RECALL for a, b in DIRECTIONS for k in RANKS},
    "progress/epoch": Role.EPOCH,
    "hparam/best_val_loss": None,
    "hparam/recall_at_1": None,
    "telemetry/lag_seconds": Role.LAG,
    "telemetry/faults": None,
    "telemetry/outbox_bytes": None,
    "telemetry/refused": None,
    "telemetry/spilled_bytes": None,
    "telemetry/step_cost_us_p50": None,
}
LIGHTNING: Final[dict[str, Role | None]] = {
    "train_loss": Role.LOSS,
    "train_loss_step": Role.LOSS,
    "train_loss_epoch": Role.LOSS,
    "val_loss": Role.VALIDATION_LOSS,
    "val_loss_epoch": Role.VALIDATION_LOSS,
    "val_loss_step": None,  # a point a batch
    "val_acc": Role.QUALITY,
    "train_acc": None,
    "test_loss": Role.VALIDATION_LOSS,
    "lr-Adam": Role.LEARNING_RATE,
    "lr-SGD/pg1": Role.LEARNING_RATE,
    "lr-SGD-momentum": None,
    "lr-AdamW-weight_decay": None,
    "grad_2.0_norm_total": Role.GRADIENT_NORM,
    "grad_2.0_norm/layer_1.weight": None,
    "epoch": Role.EPOCH,
    "hp_metric": None,
}
TRANSFORMERS: Final[dict[str, Role | None]] = {
    "train/loss": Role.LOSS,
    "train/grad_norm": Role.GRADIENT_NORM,
    "train/learning_rate": Role.LEARNING_RATE,
    "train/epoch": Role.EPOCH,
    "train/train_loss": None,  # the mean of the run, once and at its end
    "train/train_runtime": None,
    "train/train_samples_per_second": None,
    "train/total_flos": None,
    "eval/loss": Role.VALIDATION_LOSS,
    "eval/accuracy": Role.QUALITY,
    "eval/f1": Role.QUALITY,
    "eval/runtime": None,
    "eval/steps_per_second": None,
    "test/loss": Role.VALIDATION_LOSS,
}
OTHERS: Final[dict[str, Role | None]] = {
    "accuracy": Role.QUALITY,  # Accelerate's examples
    "training/loss": Role.LOSS,  # Ignite
    "training/batchloss": Role.LOSS,
    "validation/nll": Role.VALIDATION_LOSS,
    "validation/accuracy": Role.QUALITY,
    "grads_norm/fc1/weight": None,
    "lr/group_0": Role.LEARNING_RATE,
    "train/value_loss": Role.GAME,  # Stable-Baselines3
    "train/policy_gradient_loss": Role.GAME,
    "train/entropy_loss": Role.GAME,
    "train/actor_loss": Role.GAME,
    "train/critic_loss": Role.GAME,
    "train/ent_coef_loss": None,
    "train/clip_range": None,
    "train/std": None,
    "rollout/ep_rew_mean": None,
    "time/fps": None,
    "iter": None,  # nanoGPT
    "val/loss": Role.VALIDATION_LOSS,
    "lr": Role.LEARNING_RATE,
    "mfu": None,
    "Loss/train": Role.LOSS,  # PyTorch's tutorials
    "Loss/test": Role.VALIDATION_LOSS,
    "Accuracy/test": Role.QUALITY,
    "Accuracy/train": None,
    "loss_scale": None,  # hand-written loops
    "train/lossScale": None,
    "loss_weight": None,
    "best_val_loss": None,
    "loss_value": Role.LOSS,
    "train/cross_entropy_loss": Role.LOSS,
    "conv2d_loss": Role.LOSS,
    "Loss_D": Role.GAME,
    "D_loss": Role.GAME,
    "loss/generator": Role.GAME,
    "train/gradNorm": Role.GRADIENT_NORM,
    "gradient_norm": Role.GRADIENT_NORM,
    "grad_norm_after_clipping": Role.CLIPPED_NORM,
    "val/mAP": Role.QUALITY,
    "system/gpu.0.temperature": None,
    "time/epoch": None,
    "": None,
}


@pytest.mark.parametrize(
    ("tag", "role"),
    [(tag, role) for names in (REFERENCE, LIGHTNING, TRANSFORMERS, OTHERS) for tag, role in names.items()],
)
def test_a_default_tag_has_its_role(tag: str, role: Role | None) -> None:
    assert role_of_curve(tag) is role


def test_the_flight_recorder_and_the_findings_themselves_are_not_judged() -> None:
    assert [role_of_curve(tag) for tag in ("flight/loss", "findings/open", "hparam/loss")] == [None] * 3


@pytest.mark.parametrize(
    ("tag", "role"),
    [
        ("weights/text/blocks/0/linear/weight", Role.WEIGHTS),  # the reference trainer
        ("gradients/text/blocks/0/linear/weight", Role.GRADIENTS),
        ("gradients/log_scale", Role.GRADIENTS),
        ("net/weights/fc1/bias", Role.WEIGHTS),  # Ignite
        ("net/grads/fc1/weight", Role.GRADIENTS),
        ("layer1.weight", Role.WEIGHTS),
        ("layer1.weight.grad", Role.GRADIENTS),
        ("activations/relu", None),
        ("predictions", None),
    ],
)
def test_a_default_tag_of_a_summary_has_its_role(tag: str, role: Role | None) -> None:
    assert role_of_summary(tag) is role


def test_training_and_validation_have_the_same_subject() -> None:
    pairs = [("train_loss_step", "val_loss"), ("Loss/train", "Loss/test"), ("loss/train/total", "loss/val/total")]
    assert all(subject(a) == subject(b) for a, b in pairs)
    assert subject("loss/train/total") != subject("loss/val/text_image")


@given(st.text(max_size=600))
def test_no_tag_is_too_strange(tag: str) -> None:
    """Nothing raises, and the answer is a role."""
    assert role_of_curve(tag) in (None, *Role)
    assert role_of_summary(tag) in (None, Role.WEIGHTS, Role.GRADIENTS)
    assert isinstance(is_similarity(tag) or is_metric(tag), bool)
