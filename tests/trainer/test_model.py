import math

import pytest
import torch

from tensorboard_sidecar.trainer.model import (
    AudioEncoder,
    Brain,
    ImageEncoder,
    Latents,
    LogMel,
    MaskedMean,
    TextEncoder,
    Valid,
    ZeroPadding,
)


def test_valid_positions_are_the_first_ones() -> None:
    mask = Valid()(torch.tensor([2, 0, 3]), 3)
    assert mask.tolist() == [[True, True, False], [False, False, False], [True, True, True]]


def test_masked_mean_leaves_padding_out() -> None:
    features = torch.tensor([[[1.0, 10.0], [3.0, 30.0], [99.0, 99.0]]])
    assert MaskedMean()(features, torch.tensor([[True, True, False]])).tolist() == [[2.0, 20.0]]


def test_masked_mean_of_nothing_is_zero() -> None:
    assert MaskedMean()(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [[0.0, 0.0, 0.0]]


def test_zero_padding_keeps_what_is_valid() -> None:
    masked = ZeroPadding()(torch.ones(1, 2, 3), torch.tensor([[True, False, True]]))
    assert masked.tolist() == [[[1.0, 0.0, 1.0], [1.0, 0.0, 1.0]]]


def make_text_encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(20, width=16, layers=1, heads=2, tokens_max=6).eval()


def test_padding_changes_nothing() -> None:
    encoder = make_text_encoder()
    alone = encoder(torch.tensor([[2, 7, 3]]))
    padded = encoder(torch.tensor([[2, 7, 3, 0, 0], [2, 5, 6, 8, 3]]))
    torch.testing.assert_close(padded[:1], alone)
    assert alone.shape == (1, 16)


def test_order_of_words_matters() -> None:
    encoder = make_text_encoder()
    assert not torch.allclose(encoder(torch.tensor([[2, 7, 9, 3]])), encoder(torch.tensor([[2, 9, 7, 3]])), atol=1e-4)


def test_tokens_beyond_the_limit_are_cut_off() -> None:
    encoder = make_text_encoder()
    six = torch.tensor([[2, 7, 9, 5, 6, 8]])
    torch.testing.assert_close(encoder(torch.cat((six, six), dim=1)), encoder(six))


def test_features_have_the_width_that_is_told() -> None:
    encoder = ImageEncoder("resnet18").eval()
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.width)


def test_pictures_are_brought_to_the_mean_and_deviation_of_imagenet() -> None:
    """A picture of ImageNet's mean colour is all zeros to the backbone."""
    encoder = ImageEncoder("resnet18").eval()
    seen: list[torch.Tensor] = []
    encoder.backbone.conv1.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    encoder(encoder.mean.expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[0], torch.zeros(1, 3, 32, 32))


def test_constants_are_not_in_checkpoints() -> None:
    assert {name.split(".")[0] for name in ImageEncoder("resnet18").state_dict()} == {"backbone"}


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


def make_brain() -> Brain:
    torch.manual_seed(0)
    return Brain(30, embed_dim=16)


def make_inputs(pairs: int = 3) -> tuple[torch.Tensor, ...]:
    return (
        torch.randint(1, 30, (pairs, 8)),
        torch.rand(pairs, 3, 32, 32),
        torch.randn(pairs, 8_000) * 0.1,
        torch.full((pairs,), 8_000),
    )


def test_four_latents_a_pair() -> None:
    latents = make_brain()(*make_inputs())
    assert [latent.shape for latent in latents] == [(3, 16)] * 4


def test_example_inputs_fit() -> None:
    brain = make_brain().eval()
    assert brain(*brain.example_inputs(32)).text.shape == (2, 16)


def test_units_are_float32_of_length_one_whatever_the_precision() -> None:
    half = torch.full((2, 16), 30_000.0, dtype=torch.float16)
    units = Latents(half, half, half, half).unit()
    assert all(unit.dtype == torch.float32 for unit in units)
    torch.testing.assert_close(units.text.norm(dim=1), torch.ones(2))


def test_global_latent_depends_on_every_modality() -> None:
    brain = make_brain().eval()
    latents = [torch.randn(1, 16) for _ in range(3)]
    fused = brain.fusion_core(*latents)
    for changed in range(3):
        others = [-latent if number == changed else latent for number, latent in enumerate(latents)]
        assert not torch.allclose(brain.fusion_core(*others), fused, atol=1e-4)


def test_every_parameter_but_the_temperature_gets_a_gradient_from_the_latents() -> None:
    brain = make_brain()
    torch.stack(list(brain(*make_inputs()))).square().sum().backward()
    assert [name for name, parameter in brain.named_parameters() if parameter.grad is None] == ["log_scale"]


def test_temperature_starts_at_seven_hundredths() -> None:
    assert make_brain().scale().item() == pytest.approx(1 / 0.07)


@pytest.mark.parametrize(("value", "clamped"), [(9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)])
def test_temperature_is_brought_back_into_its_range(value: float, clamped: float) -> None:
    brain = make_brain()
    brain.log_scale.data.fill_(value)
    brain.clamp_scale()
    assert brain.log_scale.item() == pytest.approx(clamped)
    brain.scale().backward()
    assert brain.log_scale.grad is not None
    assert brain.log_scale.grad.item() > 0, "at its bound it can still be learnt back"


def test_a_compiled_model_keeps_its_parameters_names() -> None:
    brain = make_brain()
    names = [name for name, _ in brain.named_parameters()]
    brain.compile(backend="eager")
    assert [name for name, _ in brain.named_parameters()] == names
    assert list(brain.state_dict()) == list(make_brain().state_dict())
