"""The version bounds in pyproject.toml and in both files of constraints agree."""

import re
import tomllib
from typing import Final

from support.source import ROOT

NAME: Final = "tensorboard-sidecar"
INDIRECT: Final = {"pyparsing"}
FRAMEWORKS: Final = {
    "accelerate",
    "lightning",
    "pytorch-ignite",
    "transformers",
}  # constraints-frameworks.txt pins them
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def requirements() -> list[str]:
    """Return every requirement in the metadata, but for the extras that name other extras of this project."""
    extras = PROJECT["optional-dependencies"].values()
    every = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in extra)]
    return [requirement for requirement in every if not requirement.startswith(f"{NAME}[")]


def pinned(file_name: str) -> dict[str, str]:
    """Return the version of each package that a file of constraints pins."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file_name).read_text("utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line)


def release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare two versions of one package."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def test_every_requirement_is_a_lower_bound_alone() -> None:
    """An upper bound collides with other packages; a test must show the break first."""
    assert not [requirement for requirement in requirements() if not re.fullmatch(r"[\w-]+>=[\w.]+", requirement)]


def test_lower_bounds_are_the_versions_that_test_oldest_installs() -> None:
    bounds = {tuple(requirement.split(">=")) for requirement in requirements()}
    assert {bound for bound in bounds if bound[0] not in FRAMEWORKS} == {
        (name, version) for name, version in pinned("constraints-oldest.txt").items() if name not in INDIRECT
    }


def test_the_newest_versions_satisfy_the_lower_bounds() -> None:
    oldest, newest = pinned("constraints-oldest.txt"), pinned("constraints.txt")
    assert newest.keys() == oldest.keys() - INDIRECT
    assert not [name for name in newest if release(newest[name]) < release(oldest[name])]


def test_the_frameworks_satisfy_the_lower_bounds() -> None:
    bounds = dict(requirement.split(">=") for requirement in requirements())
    frameworks = pinned("constraints-frameworks.txt")
    assert frameworks.keys() >= FRAMEWORKS
    assert not [name for name in FRAMEWORKS if release(frameworks[name]) < release(bounds[name])]


def test_the_oldest_python_is_named_in_the_classifiers() -> None:
    pythons = [name.rpartition(" :: ")[2] for name in PROJECT["classifiers"] if ":: Python :: 3." in name]
    assert f">={pythons[0]}" == PROJECT["requires-python"]
