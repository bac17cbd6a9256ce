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
from support.source import PACKAGES, ROOT, Source, sources

PAGES: Final = ("README.md", "CHANGELOG.md", "SECURITY.md", "protocol/SPEC.md", "benchmarks/README.md", "docs")
LONG: Final = "def f() -> None:\n" + "    g()\n" * 40

# For each rule: a file that breaks it, and one that comes close and does not.
EXAMPLES: Final[dict[str, tuple[tuple[str, str], tuple[str, str]]]] = {
    "files_are_short": (("protocol/x.py", "\n" * 301), ("protocol/x.py", "\n" * 300)),
    "functions_are_short": (
        ("trainer/x.py", LONG),
        ("trainer/x.py", "# Long: one table, read from top to bottom\n" + LONG),
    ),
    "imports_go_one_way": (
        ("trainer/x.py", "import logger_service.config"),
        ("trainer/x.py", "from protocol import wire"),
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
            "import trainer.telemetry",
            ["torchvision", "torchaudio", "matplotlib", "tensorboardX", "logger_service", "PIL"],
        ),
        ("import logger_service.__main__", ["torch", "trainer"]),
        (
            "import " + ", ".join(f"protocol.{path.stem}" for path in sorted((ROOT / "protocol").glob("*.py"))),
            ["torch", "zmq", "PIL"],
        ),
    ],
    ids=["telemetry", "logger", "protocol"],
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


def test_modules_that_the_readme_runs_exist() -> None:
    text = " ".join(page.read_text("utf-8") for page in pages())
    modules = set(re.findall(rf"python -m ((?:{'|'.join(PACKAGES)})[\w.]*)", text))
    assert modules
    for module in modules:
        spec = find_spec(module)
        assert spec is not None, f"python -m {module}: no such module"
        path = Path(spec.origin or "")
        runnable = path.with_name("__main__.py") if path.name == "__init__.py" else path
        assert runnable.is_file(), f"python -m {module}: nothing to run"


def test_flags_that_the_readme_uses_exist() -> None:
    """Each stands in the source of the package that is run, spelt with a dash or an underscore."""
    for line in shell_lines():
        run = re.search(r"python -m (\w+)", line)
        for flag in re.findall(r"--([a-z][\w-]+)", line) if run and run[1] in PACKAGES else ():
            text = " ".join(source.text for source in sources() if run and source.top == run[1])
            assert re.search(rf"\b{flag.replace('-', '[-_]').replace('_', '[-_]')}\b", text), f"{line}: no --{flag}"


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
