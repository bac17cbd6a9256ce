import re

from support.records import expected

from tensorboard_sidecar.trainer.layout import custom_layout

KNOWN = (*expected.EACH_LOG_INTERVAL, *expected.EACH_EPOCH)


def test_categories_are_those_of_the_page() -> None:
    assert tuple(custom_layout()) == expected.LAYOUT


def test_every_pattern_means_exactly_one_tag() -> None:
    """TensorBoard matches prefixes: an open end would draw loss/train/total_something too."""
    for charts in custom_layout().values():
        for pattern in (pattern for chart in charts.values() for pattern in chart.tags):
            assert pattern.startswith("^")
            assert pattern.endswith("$")
            assert len([tag for tag in KNOWN if re.match(pattern, tag)]) == 1


def shown_by(category: str) -> set[str]:
    patterns = [pattern for chart in custom_layout()[category].values() for pattern in chart.tags]
    return {tag for tag in KNOWN if any(re.match(pattern, tag) for pattern in patterns)}


def test_nothing_is_left_out() -> None:
    losses = {tag for tag in KNOWN if tag.startswith("loss/")}
    assert shown_by("Training Progress") == losses - {"loss/train/epoch_std"}
    assert shown_by("Embeddings") == {tag for tag in KNOWN if tag.startswith("embeddings/")}
    assert shown_by("Optimization") == {"optimization/lr", "optimization/grad_norm"}
    assert shown_by("Alignment") == {tag for tag in KNOWN if tag.startswith("alignment/")}


def test_train_and_validation_share_a_chart() -> None:
    tags = custom_layout()["Training Progress"]["text image"].tags
    assert tags == ["^loss/train/text_image$", "^loss/val/text_image$"]
