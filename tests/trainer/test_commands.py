import argparse
from pathlib import Path
from typing import Any

import pytest

from tensorboard_sidecar.command_line import make_parser
from tensorboard_sidecar.trainer.commands import add_train, given_settings
from tensorboard_sidecar.trainer.settings import Config

# Changing a line is changing somebody's script: add new ones, keep the old.
FLAGS = """
--root_dir PATH [data/flickr8k]
--image_size N [64]
--num_workers N [0]
--max_seconds X [10.0]
--embed_dim N [128]
--backbone {resnet18,resnet34,resnet50} [resnet18]
--pretrained [no]
--compile [no]
--epochs N [10]
--batch_size N [32]
--lr X [0.001]
--weight_decay X [0.05]
--warmup_steps N [16]
--clip_norm X [1.0]
--precision {fp32,bf16,fp16} [fp32]
--device NAME [auto]
--seed N [0]
--run NAME [flickr8k/<time>]
--endpoint NAME [tcp://127.0.0.1:5555]
--server_key NAME [none]
--client_key PATH [none]
--record PATH [none]
--outbox_bytes N [268435456, 256 MiB]
--outbox_dir PATH [/dev/shm]
--spill_dir PATH [OUTBOX_DIR, else /var/tmp]
--spill_bytes N [4294967296, 4096 MiB]
--log_interval N [10]
--histogram_interval N [5]
--drain_seconds X [5.0]
--strict [no]
--savedir PATH [checkpoints]
--resume PATH [none]
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    add_train(parser)
    return parser


def parse_arguments(arguments: list[str]) -> dict[str, Any]:
    return given_settings(make_parser(["train"]).parse_args(["train", *arguments]))


def test_flags_are_frozen() -> None:
    found = []
    for action in build_parser()._actions[1:]:
        values = "{" + ",".join(action.choices) + "}" if action.choices else str(action.metavar or "")
        default = (action.help or "").rpartition("(default: ")[2].rstrip(")")
        found.append(" ".join(part for part in (action.option_strings[0], values, f"[{default}]") if part))
    assert found == FLAGS.split("\n")[1:-1]


def test_underscores_and_dashes_are_the_same() -> None:
    for action in build_parser()._actions[1:]:
        positive = [flag for flag in action.option_strings if not flag.startswith("--no-")]
        assert {flag.replace("-", "_") for flag in positive} == {positive[0].replace("-", "_")}
        assert positive[0].removeprefix("--").replace("_", "-") in {flag.removeprefix("--") for flag in positive}


def test_only_what_was_given_is_returned() -> None:
    assert parse_arguments([]) == {}
    given = parse_arguments(["--root-dir", "x", "--log_interval", "3", "--pretrained", "--no-compile", "--lr=1e-4"])
    assert given == {"root_dir": Path("x"), "log_interval": 3, "pretrained": True, "compile": False, "lr": 1e-4}
    assert Config(**given).log_interval == 3


@pytest.mark.parametrize("arguments", [["--epoch", "3"], ["--epochs", "many"], ["--precision", "fp8"], ["extra"]])
def test_what_is_no_flag_ends_with_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_help_explains_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    shown = capsys.readouterr().out
    assert shown.count("(default:") + shown.count("(default\n") >= len(FLAGS.split("\n")) - 2
    for group in ("data:", "model:", "training:", "telemetry:", "checkpoints:"):
        assert f"\n{group}\n" in shown
