import torch

from tensorboard_sidecar.trainer.model.image import ImageEncoder


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
