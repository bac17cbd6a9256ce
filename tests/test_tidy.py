"""The habits that a program can check, checked: rules for the code, and what the README promises."""

import ast
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeGuard

import pytest
from support.rules import FOLDER_FILES_MAX, MAY_IMPORT, RULES
from support.source import PACKAGE, ROOMS, ROOT, Source, sources

from tensorboard_sidecar.command_line import COMMANDS, main

PAGES: Final = ("README.md", "CHANGELOG.md", "SECURITY.md", "protocol/SPEC.md", "benchmarks/README.md", "docs")
WIDE: Final = "class A:\n    def __init__(self):\n" + "".join(f"        self.a{i} = 1\n" for i in range(14))
CHARTER_LINES_MAX: Final = 4
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


def module_name(source: Source) -> str:
    """Return the full name of the module in a file of the repository."""
    path = source.path.removeprefix(f"src/{PACKAGE}/").removesuffix(".py")
    return f"{PACKAGE}.{path.replace('/', '.')}".removesuffix(".__init__")


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


def circle_in(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the nodes of a circle in a graph, first and last the same; an empty list when there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def imports_of_modules(found: Iterable[Source]) -> dict[str, set[str]]:
    """Return, for each module of the package, the modules of the package that it imports anywhere in its text."""
    by_name = {module_name(source): source for source in found if source.top in ("src", *ROOMS)}
    edges: dict[str, set[str]] = {name: set() for name in by_name}
    for name, source in by_name.items():
        for _, imported in source.imports():
            module = imported if imported in by_name else imported.rpartition(".")[0]
            if module in by_name and module != name:
                edges[name].add(module)
    return edges


def test_no_modules_import_each_other_in_a_circle() -> None:
    """An import for type checkers alone counts too: each module can be read after those that it imports."""
    edges = imports_of_modules(sources())
    assert edges[f"{PACKAGE}.telemetry.telemetry"] >= {f"{PACKAGE}.telemetry.writer.methods"}
    assert circle_in(edges) == []


def test_a_circle_of_imports_is_found() -> None:
    texts = {
        "trainer/a.py": "from tensorboard_sidecar.trainer.b import x",
        "trainer/b.py": "from tensorboard_sidecar.trainer import c",
        "trainer/c.py": "if TYPE_CHECKING:\n    import tensorboard_sidecar.trainer.a",
    }
    edges = imports_of_modules(Source.parse(*item) for item in texts.items())
    assert {name.rpartition(".")[2] for name in circle_in(edges)} == {"a", "b", "c"}
    assert circle_in({name: set() if name.endswith("c") else imported for name, imported in edges.items()}) == []


def test_no_rooms_may_import_each_other_in_a_circle() -> None:
    edges = {room: set(allowed) for room, allowed in MAY_IMPORT.items()}
    assert circle_in(edges) == []


def test_no_folder_of_a_room_has_too_many_files() -> None:
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    files = {folder.relative_to(ROOT).as_posix(): sum(map(Path.is_file, folder.iterdir())) for folder in folders}
    assert {folder: number for folder, number in files.items() if number > FOLDER_FILES_MAX} == {}


def charter_problem(source: Source) -> str | None:
    """Tell what is wrong with the docstring of a room, if anything."""
    charter = ast.get_docstring(source.tree) or ""
    if not 1 <= len(charter.splitlines()) <= CHARTER_LINES_MAX:
        return f"a charter of {len(charter.splitlines())} lines; expected 1 to {CHARTER_LINES_MAX}"
    if MAY_IMPORT[source.room] and not re.search(r"\bMay import\b", charter):
        return "a charter that does not say what the room may import"
    return None


def test_every_room_has_a_charter() -> None:
    """A few lines: what the room is, and what it may import."""
    found = [source for source in sources() if source.top in ROOMS and source.path.endswith("/__init__.py")]
    rooms = {source.room: source for source in found}
    assert rooms.keys() == MAY_IMPORT.keys() - {"", "integrations"}
    assert {room: problem for room, source in rooms.items() if (problem := charter_problem(source))} == {}


@pytest.mark.parametrize(
    ("charter", "problem"),
    [("", "0 lines"), ("A room.\n\nB.\n\nMay import x.", "5 lines"), ("A room.", "may import")],
)
def test_a_room_without_a_charter_is_found(charter: str, problem: str) -> None:
    found = charter_problem(Source.parse("telemetry/__init__.py", f'"""{charter}"""'))
    assert found is not None
    assert problem in found


@pytest.mark.parametrize(
    ("statement", "strangers"),
    [
        (
            "from tensorboard_sidecar import Telemetry",
            ["torchvision", "torchaudio", "matplotlib", "tensorboardX", "tensorboard_sidecar.logger_service", "PIL"],
        ),
        (
            "import tensorboard_sidecar.logger_service.commands",
            ["torch", "tensorboard_sidecar.trainer", "tensorboard_sidecar.telemetry"],
        ),
        ("import tensorboard_sidecar.telemetry.recovery.commands", ["torch", "matplotlib"]),
        ("import tensorboard_sidecar.logger_service.projection.follower", ["torch", "zmq", "matplotlib"]),
        ("import tensorboard_sidecar.logger_service.offline.verification", ["torch", "zmq", "matplotlib"]),
        ("import tensorboard_sidecar.trainer.commands", ["torch", "zmq", "torchvision", "matplotlib"]),
        ("import tensorboard_sidecar.trainer.data.synthetic", ["torch", "zmq", "torchvision", "matplotlib"]),
        ("import tensorboard_sidecar", ["torch", "zmq", "torchvision", "matplotlib"]),
        (
            "import " + ", ".join(sorted(module_name(source) for source in sources() if source.top == "protocol")),
            ["torch", "zmq", "PIL"],
        ),
    ],
    ids=["telemetry", "logger", "recovery", "project", "verify", "train", "demo-data", "package", "protocol"],
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


def test_messages_that_the_readme_quotes_exist() -> None:
    """The text of each quotation, part by part, is in a string of the product: users search for what they see."""
    texts = [node.value for source in sources() for node in source.nodes if is_text(node) and source.top in ROOMS]
    texts += [path.read_text("utf-8") for path in (ROOT / "trainer").glob("*.sh")]
    rows = (ROOT / "README.md").read_text("utf-8").partition("## Troubleshooting")[2].partition("\n## ")[0]
    quoted = [text for text in re.findall(r'^\|[^|]*?"([^"|]+)"', rows, re.MULTILINE) if "port is already" not in text]
    assert len(quoted) > 10
    parts = [part.strip() for text in quoted for part in re.split(r"\.\.\.|\bDIR\b|: ", text) if len(part.strip()) > 5]
    assert [part for part in parts if not any(part in text for text in texts)] == []


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


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
