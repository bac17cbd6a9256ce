"""The package as a user gets it: as a wheel, by way of an sdist, editable, and as a checkout that is not installed."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from support.source import PACKAGE, ROOMS, ROOT

from tensorboard_sidecar import __version__

pytestmark = [pytest.mark.system]

SETUPTOOLS_MIN = 77  # as pyproject.toml requires
LIBRARIES = ("crc32c", "matplotlib", "msgpack", "msgspec", "numpy", "PIL", "setuptools", "tensorboardX", "torch", "zmq")
CHECKOUT = ("pyproject.toml", "README.md", "LICENSE", "src", *ROOMS, "tests")
OWN_MODULES = ("trainer", "protocol", "telemetry", "logger_service")

TRAINING = """
import sys
import trainer, protocol, telemetry, logger_service
import tensorboard_sidecar
from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.trainer.settings import Config

with Telemetry("demo", endpoint="none", record="recordings") as log:
    for step in range(10):
        log.scalars(step, {"loss": trainer.loss(step)})
print(*(module.OWNER for module in (trainer, protocol, telemetry, logger_service)))
print(tensorboard_sidecar.__file__)
"""
THEIRS = "OWNER = {owner!r}\n\ndef loss(step): return 1.0 * step\n"
TYPED = """
from tensorboard_sidecar import Telemetry

telemetry = Telemetry("demo")
reveal_type(telemetry.run)
reveal_type(telemetry.scalars(0, {"loss": 1.0}))
telemetry.scalars("first", {"loss": 1.0})
"""
# mypy reads the sources of torch for a minute; the types of this package can be seen without.
MYPY_SETTINGS = "[mypy]\n[mypy-torch.*,numpy.*]\nfollow_imports = skip\nignore_missing_imports = true\n"


class Python:
    """A fresh environment without pip. It sees ``first``, and the libraries of the environment of the tests."""

    def __init__(self, folder: Path, *first: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
        [self.packages] = folder.glob("lib/python*/site-packages")
        found = [importlib.util.find_spec(library) for library in LIBRARIES]
        places = {str(Path(spec.origin).parents[1]): None for spec in found if spec is not None and spec.origin}
        (self.packages / "libraries.pth").write_text("".join(f"{place}\n" for place in (*first, *places)))

    @property
    def path(self) -> Path:
        return self.folder / "bin/python"

    def install(self, *arguments: str | Path) -> None:
        """Install as ``pip install`` does; the libraries are there, and nothing of theirs is changed."""
        run(
            sys.executable, "-m", "pip", "--python", self.path, "install", "--no-deps", "--ignore-installed", *arguments
        )

    def program(self, name: str) -> Path:
        return self.folder / "bin" / name


def run(*command: str | Path, folder: Path = ROOT, expected: int = 0) -> str:
    """Run a command away from this checkout; return its output, and its errors behind that."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder for all tests here; environments are large, and are removed."""
    folder = tmp_path_factory.mktemp("installed")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def checkout(folder: Path) -> Path:
    """Return a copy of this checkout, so that builds leave nothing in it."""
    copy = folder / "checkout"
    copy.mkdir()
    for name in CHECKOUT:
        if (ROOT / name).is_dir():
            made = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=made)
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def builder(folder: Path) -> Path:
    """Return an interpreter that has the build backend: this one, or a fresh one with it from the package index."""
    try:
        if int(version("setuptools").partition(".")[0]) >= SETUPTOOLS_MIN:
            return Path(sys.executable)
    except PackageNotFoundError:
        pass
    subprocess.run([sys.executable, "-m", "venv", folder / "builder"], check=True, timeout=120)
    python = folder / "builder/bin/python"
    run(python, "-m", "pip", "install", "--quiet", f"setuptools>={SETUPTOOLS_MIN}")
    return python


@pytest.fixture(scope="module")
def wheels(folder: Path, checkout: Path, builder: Path) -> tuple[Path, Path]:
    """Return the wheel built from the checkout, and the one built from its sdist."""
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run(builder, "-c", build, folder, folder=checkout)
    [sdist] = folder.glob("*.tar.gz")
    found = []
    for source, name in ((checkout, "direct"), (sdist, "by-sdist")):
        run(builder, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", folder / name, source)
        found += (folder / name).glob("*.whl")
    direct, by_sdist = found
    return direct, by_sdist


@pytest.fixture(scope="module")
def installed(folder: Path, wheels: tuple[Path, Path]) -> Python:
    """Return an environment with the wheel, and with a distribution whose only package is called ``trainer``."""
    python = Python(folder / "venv")
    python.install("--no-index", wheels[0])
    for name in ("trainer", "another_trainer-1.0.dist-info"):
        (python.packages / name).mkdir()
    (python.packages / "trainer/__init__.py").write_text(THEIRS.format(owner="distribution"))
    (python.packages / "another_trainer-1.0.dist-info/METADATA").write_text("Name: another-trainer\nVersion: 1.0\n")
    return python


def test_a_wheel_holds_one_package_with_all_rooms_and_no_tests(wheels: tuple[Path, Path]) -> None:
    modules = [path.relative_to(ROOT).as_posix() for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    own = ROOT / "src" / PACKAGE
    modules += [
        path.relative_to(own).as_posix() for pattern in ("*.py", "integrations/*.py") for path in own.glob(pattern)
    ]
    expected = {f"{PACKAGE}/{name}" for name in (*modules, "py.typed", "protocol/SPEC.md")}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
        metadata = f"{PACKAGE}-{__version__}.dist-info"
        assert {name.partition("/")[0] for name in names} == {PACKAGE, metadata}
        assert {name for name in names if name.startswith(f"{PACKAGE}/")} == expected


def test_a_wheel_built_by_way_of_an_sdist_is_the_same(wheels: tuple[Path, Path]) -> None:
    contents = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist()})
    assert contents[0] == contents[1]


def train(installed: Python, folder: Path, *own: str) -> list[str]:
    """Run a training script in a folder with modules of these names; return whose four modules it imported."""
    for name in own:
        (folder / f"{name}.py").write_text(THEIRS.format(owner="script"))
    (folder / "train.py").write_text(TRAINING)
    owners, place = run(installed.path, "train.py", folder=folder).splitlines()
    assert place == str(installed.packages / PACKAGE / "__init__.py")
    return owners.split()


def test_it_is_used_beside_a_scripts_own_modules_of_the_same_names(installed: Python, tmp_path: Path) -> None:
    """Python finds the neighbours of a script before all packages."""
    assert train(installed, tmp_path, *OWN_MODULES) == ["script"] * 4
    sidecar = installed.program("tensorboard-sidecar")
    assert "12 records" in run(sidecar, "replay", "recordings", "--logdir", "runs", folder=tmp_path)
    module = (installed.path, "-m", PACKAGE)
    assert run(*module, "verify", "recordings", "runs", folder=tmp_path).count(": complete") == 2
    assert "nothing is left behind" in run(sidecar, "status", tmp_path, folder=tmp_path)


def test_it_is_used_beside_a_distribution_whose_package_is_called_trainer(installed: Python, tmp_path: Path) -> None:
    assert train(installed, tmp_path, *OWN_MODULES[1:]) == ["distribution", *["script"] * 3]


@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_the_types_are_seen_by_a_users_mypy(
    editable: bool, installed: Python, folder: Path, checkout: Path, tmp_path: Path
) -> None:
    python = installed
    if editable:
        python = Python(folder / "editable", *folder.glob("builder/lib/python*/site-packages"))
        python.install("--no-index", "--no-build-isolation", "-e", checkout)
        assert run(python.program("tensorboard-sidecar"), "--version") == f"tensorboard-sidecar {__version__}\n"
    (tmp_path / "script.py").write_text(TYPED)
    (tmp_path / "mypy.ini").write_text(MYPY_SETTINGS)
    mypy = (sys.executable, "-m", "mypy", "--strict", "--config-file", "mypy.ini", "--cache-dir", folder / "mypy")
    said = run(*mypy, "--python-executable", python.path, "script.py", folder=tmp_path, expected=1)
    assert re.findall(r'Revealed type is "(?:builtins\.)?(.*)"', said) == ["str", "None"], said
    assert re.findall(r"^script.py:(\d+): error: (.*)$", said, re.MULTILINE) == [
        ("7", 'Argument 1 to "scalars" of "Telemetry" has incompatible type "str"; expected "int"  [arg-type]')
    ]


def test_a_checkout_in_which_nothing_is_installed_runs_both_programs(
    folder: Path, checkout: Path, tmp_path: Path
) -> None:
    python = Python(folder / "libraries").path
    run(python, "-c", f"import {PACKAGE}", folder=tmp_path, expected=1)
    assert "error: epochs is 0" in run(python, "-m", "trainer", "--epochs", "0", folder=checkout, expected=2)
    serve = [python, "-m", "logger_service", "serve", "--bind", "tcp://127.0.0.1:*", "--health", "none"]
    serve += ["--adopt", "none", "--recordings", tmp_path / "recordings", "--logdir", tmp_path / "runs"]
    with subprocess.Popen(serve, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("listening on "):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "projection closed" in said, "the projection's process found the package too"
