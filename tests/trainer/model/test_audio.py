import math

import torch

from tensorboard_sidecar.trainer.model.audio import AudioEncoder, LogMel

RATE_HZ = 16_000


def make_tone(seconds: float, hz: float = 440.0) -> torch.Tensor:
    return 0.3 * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * RATE_HZ)) / RATE_HZ)


def test_features_do_not_depend_on_what_a_recording_is_batched_with() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(RATE_HZ, bands=32, width=24, blocks=3).eval()
    short, long = make_tone(0.5), make_tone(1.3, 700.0)
    lengths = torch.tensor([len(short), len(long)])
    alone = encoder(short[None], lengths[:1])
    together = encoder(torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True), lengths)
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_frames_are_counted_as_the_spectrogram_makes_them() -> None:
    log_mel = LogMel(RATE_HZ, 32)
    for samples in (1, 255, 256, 257, 16_000):
        frames = log_mel(torch.zeros(1, samples)).shape[2]
        assert log_mel.frames(torch.tensor([samples])).tolist() == [frames]


def test_spectrogram_is_float32_and_finite_under_autocast() -> None:
    """Half precision ends at 65,504; the power of a loud tone is far above."""
    with torch.autocast("cpu", torch.float16):
        frames = LogMel(RATE_HZ, 32)(3 * make_tone(0.5)[None])
    assert frames.dtype == torch.float32
    assert torch.isfinite(frames).all()


def test_silence_and_speech_level_stay_near_unit_range() -> None:
    log_mel = LogMel(RATE_HZ, 64)
    torch.manual_seed(0)
    assert log_mel(torch.zeros(1, RATE_HZ)).min() > -3
    assert abs(log_mel(0.05 * torch.randn(1, RATE_HZ)).mean()) < 2
