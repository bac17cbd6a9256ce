"""Telemetry for anybody's training loop: needs torch, pyzmq and msgpack, no torchvision, no torchaudio."""

from trainer.telemetry.telemetry import DEFAULT_ENDPOINT, Telemetry

__all__ = ["DEFAULT_ENDPOINT", "Telemetry"]
