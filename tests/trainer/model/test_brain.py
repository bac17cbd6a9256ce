import math

import pytest
import torch

from tensorboard_sidecar.trainer.model.brain import Brain, Latents


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
