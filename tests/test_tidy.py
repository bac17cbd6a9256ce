"""The habits that a program can check, checked: rules for the code, and what the README promises."""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
from support.rules import RULES
from support.source import PACKAGE, ROOT, Source, sources

from tensorboard_sidecar.__main__ import COMMANDS, main

PAGES: Final = ("README.md", "CHANGELOG.md", "SECURITY.md", "protocol/SPEC.md", "benchmarks/README.md", "docs")
WIDE: Final = "class A:\n    def __init__(self):\n" + "".join(f"        self.a{i} = 1\n" for i in range(14))
LONG: Final = "def f() -> None:\n" + "    g()\n" * 40

# For each rule: a file that breaks it, and one that comes close and does not.
EXAMPLES: Final[dict[str, tuple[tuple[str, str], tuple[str, str]]]] = {
    "classes_are_one_thing": (
        ("trainer/x.py", WIDE),
        ("trainer/x.py", "# Wide: the settings of one program\n" + WIDE),
    ),
    "functions_are_short": (
        ("trainer/x.py", LONG),
        ("trainer/x.py", "# Long: one table, read from top to bottom\n" + LONG),
    ),
    "imports_go_by_the_full_name": (
        ("trainer/x.py", "from protocol import wire"),
        ("trainer/x.py", "from tensorboard_sidecar.protocol import wire"),
    ),
    "imports_go_one_way": (
        ("trainer/x.py", "import tensorboard_sidecar.logger_service.config"),
        ("trainer/x.py", "from tensorboard_sidecar.protocol import wire"),
    ),
    "libraries_have_one_place": (("logger_service/x.py", "import torch"), ("trainer/x.py", "from torch import nn")),
    "protocol_needs_little": (("protocol/x.py", "from PIL import Image"), ("protocol/x.py", "import numpy, os.path")),
    "only_command_lines_print": (("trainer/x.py", "print(1)"), ("trainer/data/__main__.py", "print(1)")),
    "nothing_dangerous_is_used": (("tests/x.py", "from matplotlib import pyplot"), ("tests/x.py", "model.eval()")),
    "wall_time_is_passed_in": (
        ("trainer/x.py", "from time import time_ns"),
        ("trainer/x.py", "from time import monotonic"),
    ),
    "errors_are_handled": (
        ("trainer/x.py", "try:\n    f()\nexcept Exception:\n    pass"),
        ("trainer/x.py", "with suppress(OSError):\n    f()"),
    ),
    "state_is_not_global": (
        ("trainer/x.py", "def f():\n    global a"),
        ("trainer/x.py", "def f():\n    nonlocal_a = 1"),
    ),
    "public_names_are_documented": (
        ("trainer/x.py", '"""What it is."""\n\n\nclass A:\n    """What A is."""\n\n    def f(self): ...'),
        ("trainer/x.py", '"""What it is."""\n\n\nclass _A:\n    def f(self): ...'),
    ),
    "packages_only_export": (("trainer/__init__.py", "x = 1"), ("trainer/__init__.py", '"""A."""\n__all__ = ["b"]')),
    "exceptions_to_the_linter_have_reasons": (
        ("trainer/x.py", "x = 1  # noqa"),
        ("trainer/x.py", "x = 1  # noqa: S101 - why"),
    ),
    "tests_are_no_packages": (("tests/trainer/__init__.py", ""), ("trainer/__init__.py", "")),
}


def module_name(path: Path) -> str:
    """Return the full name of the module in a file of the repository."""
    return ".".join([PACKAGE, *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_every_file_keeps_the_rule(rule: Callable[[Source], Iterator[str]]) -> None:
    problems = [f"{source.path}: {problem}" for source in sources() for problem in rule(source)]
    assert not problems, "\n".join([rule.__name__, *problems])


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_rule_bites(rule: Callable[[Source], Iterator[str]]) -> None:
    """A rule that passes everything would pass this project too."""
    bad, good = EXAMPLES[rule.__name__]
    assert list(rule(Source.parse(*bad)))
    assert not list(rule(Source.parse(*good)))


@pytest.mark.parametrize(
    ("statement", "strangers"),
    [
        (
            "from tensorboard_sidecar import Telemetry",
            ["torchvision", "torchaudio", "matplotlib", "tensorboardX", "tensorboard_sidecar.logger_service", "PIL"],
        ),
        (
            "import tensorboard_sidecar.logger_service.__main__",
            ["torch", "tensorboard_sidecar.trainer", "tensorboard_sidecar.telemetry"],
        ),
        ("import tensorboard_sidecar.telemetry.recovery.commands", ["torch", "matplotlib"]),
        ("import tensorboard_sidecar", ["torch", "zmq", "torchvision", "matplotlib"]),
        (
            "import " + ", ".join(sorted(map(module_name, (ROOT / "protocol").rglob("*.py")))),
            ["torch", "zmq", "PIL"],
        ),
    ],
    ids=["telemetry", "logger", "recovery", "package", "protocol"],
)
def test_an_import_brings_no_strangers(statement: str, strangers: list[str]) -> None:
    """What people install for one part is all that this part needs."""
    program = f"{statement}\nimport sys\nprint(*sorted(set({strangers}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def pages() -> list[Path]:
    """Return the texts for people that are there."""
    found = [ROOT / name for name in PAGES]
    return [page for path in found for page in (path.rglob("*.md") if path.is_dir() else [path]) if page.is_file()]


def shell_lines() -> list[str]:
    """Return the commands in the README, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    return [line.partition("#")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def test_commands_that_the_pages_name_exist() -> None:
    """Both as a command (``tensorboard-sidecar serve``) and, for what has no command, as a module."""
    text = " ".join(page.read_text("utf-8") for page in pages())
    named = set(re.findall(r"tensorboard-sidecar ([a-z][a-z-]+)", text))
    assert named
    assert named <= set(COMMANDS)
    for module in set(re.findall(r"python -m ((?:tensorboard_sidecar|benchmarks)[\w.]*)", text)):
        assert find_spec(module) is not None, f"python -m {module}: no such module"


@pytest.mark.parametrize("command", COMMANDS)
def test_flags_that_the_readme_uses_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is in the help of the command, or of one of its actions."""
    for line in shell_lines():
        run = re.search(rf"tensorboard-sidecar {command}((?: [a-z]+)?)(?= |$)", line)
        for flag in re.findall(r"--([a-z][\w-]+)", line.partition("tensorboard-sidecar")[2]) if run else ():
            help_of = [command, *run[1].split()] if run and command == "keys" else [command]
            with pytest.raises(SystemExit, match="0"):
                main([*help_of, "--help"])
            assert re.search(rf"--{flag.replace('_', '[-_]')}\b", capsys.readouterr().out), f"{line}: no --{flag}"


def test_make_targets_that_the_readme_uses_exist() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    used = [line.split()[1] for line in shell_lines() if line.startswith("make ")]
    assert used
    assert set(used) <= set(targets)


def test_extras_that_the_readme_installs_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"tensorboard-sidecar\[([\w,]+)\]", (ROOT / "README.md").read_text("utf-8"))
    assert named
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


def test_links_between_pages_lead_somewhere() -> None:
    for page in pages():
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)}: no {target}"


def test_no_file_names_the_place_it_lies_in() -> None:
    """A path of somebody's machine helps nobody else."""
    everybodys = {Path("/"), Path("/home"), Path(tempfile.gettempdir())}
    names = [f"{ROOT}", *(f"{folder}/" for folder in {Path.home(), ROOT.parent} - everybodys)]
    others = [*pages(), *(ROOT / name for name in ("Makefile", "pyproject.toml")), *(ROOT / ".ci").glob("*")]
    texts = {source.path: source.text for source in sources()} | {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in others if path.is_file()
    }
    for path, text in texts.items():
        assert not [name for name in names if name in text], path
