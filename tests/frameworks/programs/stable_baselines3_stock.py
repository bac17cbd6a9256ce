"""A Stable-Baselines3 training with ``tensorboard_log``. ``python stable_baselines3_stock.py FOLDER``."""

import sys

import numpy as np
from matplotlib.figure import Figure as Drawing
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, HParam, Image
from stable_baselines3.common.utils import set_random_seed

STEPS = 128


class Extras(BaseCallback):
    """Logs what SB3 can log beside scalars: hyperparameters, a figure and a picture."""

    def _on_training_start(self) -> None:
        row = HParam({"algorithm": "PPO", "gamma": self.model.gamma}, {"rollout/ep_len_mean": 0.0})
        self.logger.record("hparams", row, exclude=("stdout", "log", "json", "csv"))

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        drawing = Drawing(figsize=(2, 1))
        drawing.add_subplot().plot([0, 1], [1, 0])
        away = ("stdout", "log", "json", "csv")
        self.logger.record("drawn/line", Figure(drawing, close=True), exclude=away)
        self.logger.record("drawn/ramp", Image(np.arange(64, dtype=np.uint8).reshape(8, 8), "HW"), exclude=away)


def train(folder: str) -> None:
    """Train for two rollouts; the run is ``folder/cart_1``."""
    set_random_seed(0)
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=64, n_epochs=1, seed=0, device="cpu", tensorboard_log=folder)
    model.learn(STEPS, tb_log_name="cart", callback=Extras())


if __name__ == "__main__":
    train(sys.argv[1])
