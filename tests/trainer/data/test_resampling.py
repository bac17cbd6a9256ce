import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorboard_sidecar.trainer.data.resampling import resample


@pytest.mark.parametrize("from_hz", [8_000, 16_000, 22_050, 44_100, 44_101, 48_000])
def test_a_tone_stays_the_same_tone(from_hz: int) -> None:
    heard = resample(np.sin(2 * np.pi * 440 * np.arange(from_hz) / from_hz), from_hz, 16_000)
    assert len(heard) == 16_000
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(heard - expected)[200:-200].max() < 2e-3


def test_what_the_new_rate_cannot_hold_is_gone() -> None:
    heard = resample(np.sin(2 * np.pi * 10_000 * np.arange(22_050) / 22_050), 22_050, 16_000)
    assert np.abs(heard[200:-200]).max() < 0.02


@given(st.integers(0, 3000), st.integers(1, 2000), st.integers(1, 2000))
def test_the_length_follows_the_rates(samples: int, from_hz: int, to_hz: int) -> None:
    assert len(resample(np.ones(samples), from_hz, to_hz)) == -(-samples * to_hz // from_hz)
