"""A Transformers training that logs through ``report_to="tensorboard"``. ``python transformers_stock.py FOLDER``."""

import dataclasses
import os
import sys
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed

STEPS = 6
FIELDS = {field.name for field in dataclasses.fields(TrainingArguments)}


def train(output_dir: Path, *, report_to: str, callbacks: tuple[TrainerCallback, ...] = ()) -> None:
    """Train a language model of a few thousand weights, then evaluate it."""
    set_seed(0)
    config = GPT2Config(vocab_size=32, n_positions=8, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    rows = torch.randint(32, (24, 8)).tolist()
    data = [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in rows]
    # Transformers 4 has an argument in place of the environment variable.
    place = {"logging_dir": os.environ.get("TENSORBOARD_LOGGING_DIR")} if "logging_dir" in FIELDS else {}
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        logging_steps=1,
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="no",
        report_to=report_to,
        use_cpu=True,
        disable_tqdm=True,
        **place,
    )
    trainer = Trainer(
        GPT2LMHeadModel(config), arguments, train_dataset=data, eval_dataset=data[:8], callbacks=list(callbacks)
    )
    trainer.train()
    trainer.evaluate(metric_key_prefix="test")


if __name__ == "__main__":
    os.environ["TENSORBOARD_LOGGING_DIR"] = sys.argv[1]
    train(Path(sys.argv[1]) / "output", report_to="tensorboard")
