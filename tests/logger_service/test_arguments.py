import argparse
from pathlib import Path

import pytest

from tensorboard_sidecar.command_line import main, make_parser
from tensorboard_sidecar.logger_service.arguments import serve_config
from tensorboard_sidecar.logger_service.config import ServeConfig
from tensorboard_sidecar.logger_service.errors import StartupError


def parse(*arguments: str) -> argparse.Namespace:
    return make_parser(arguments[:1]).parse_args(arguments)


def test_serve_without_flags_is_the_default_configuration() -> None:
    assert serve_config(parse("serve")) == ServeConfig()


@pytest.mark.parametrize(
    "flags", [["--log_dir", "a", "--drain_seconds", "3"], ["--log-dir", "a", "--drain-seconds", "3"]]
)
def test_flags_of_two_words_take_underscores_and_dashes(flags: list[str]) -> None:
    config = serve_config(parse("serve", *flags))
    assert (config.logdir, config.drain_seconds) == (Path("a"), 3.0)


def test_a_setting_that_cannot_be_is_refused() -> None:
    with pytest.raises(StartupError):
        serve_config(parse("serve", "--bind", "tcp://0.0.0.0:5555"))


@pytest.mark.parametrize("command", ["serve", "replay", "inspect", "verify"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"  {command} " in make_parser([]).format_help()
    with pytest.raises(SystemExit) as end:
        parse(command, "--help")
    assert end.value.code == 0
    assert len(capsys.readouterr().out) > 200


@pytest.mark.parametrize(
    "arguments", [[], ["replay", "recordings", "--logdir"], ["replay", "--logdir", "a"], ["inspect"], ["dance"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_what_watches_the_logger_is_told_by_flags() -> None:
    flags = ["--health", "127.0.0.1:*", "--adopt", "/dev/shm/a", "--disk-reserve-bytes", "5"]
    config = serve_config(parse("serve", *flags))
    assert (config.health, config.adopt, config.disk_reserve_bytes) == ("127.0.0.1:*", "/dev/shm/a", 5)


def test_names_that_trainers_have_for_a_logger_are_flags_that_may_come_twice() -> None:
    flags = ["--adopt_for", "tcp://logger:5555", "--adopt-for", "ipc:///run/logger"]
    assert serve_config(parse("serve", *flags)).adopt_for == (flags[1], flags[3])
    with pytest.raises(StartupError, match="--adopt_for logger: expected a trainer's endpoint"):
        serve_config(parse("serve", "--adopt_for", "logger"))


def test_hooks_are_flags_that_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    config = serve_config(parse("serve", "--on-finding", "notify --to 'me'", "--on-finding-url", "http://localhost/a"))
    assert (config.on_finding, config.on_finding_url) == ("notify --to 'me'", "http://localhost/a")
    with pytest.raises(SystemExit):
        parse("serve", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert 'finding = json.load(sys.stdin) if finding["severity"] == "error"' in said
    assert "at most 20 a minute and 20 s each" in said
