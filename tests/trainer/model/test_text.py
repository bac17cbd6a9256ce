import torch

from tensorboard_sidecar.trainer.model.text import TextEncoder


def make_encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(20, width=16, layers=1, heads=2, tokens_max=6).eval()


def test_padding_changes_nothing() -> None:
    encoder = make_encoder()
    alone = encoder(torch.tensor([[2, 7, 3]]))
    padded = encoder(torch.tensor([[2, 7, 3, 0, 0], [2, 5, 6, 8, 3]]))
    torch.testing.assert_close(padded[:1], alone)
    assert alone.shape == (1, 16)


def test_order_of_words_matters() -> None:
    encoder = make_encoder()
    assert not torch.allclose(encoder(torch.tensor([[2, 7, 9, 3]])), encoder(torch.tensor([[2, 9, 7, 3]])), atol=1e-4)


def test_tokens_beyond_the_limit_are_cut_off() -> None:
    encoder = make_encoder()
    six = torch.tensor([[2, 7, 9, 5, 6, 8]])
    torch.testing.assert_close(encoder(torch.cat((six, six), dim=1)), encoder(six))
