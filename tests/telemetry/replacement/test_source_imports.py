import sys
from pathlib import Path

import pytest

from tensorboard_sidecar.telemetry.replacement import source_imports
from tensorboard_sidecar.telemetry.replacement.source_imports import find_program, look_at

REPLACED = "replaced"


def write(folder: Path, **files: str) -> None:
    """Write the files of a program; ``a__b`` is ``a/b.py``."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/', 1)}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("line", "effects"),
    [
        ("from torch.utils.tensorboard import SummaryWriter", [REPLACED]),
        ("from torch.utils.tensorboard.writer import SummaryWriter as W", [REPLACED]),
        ("from torch.utils import tensorboard", [REPLACED]),
        ("import torch.utils.tensorboard as tb, tensorboardX", [REPLACED, REPLACED]),
        ("from tensorboardX import *", [REPLACED]),
        ("from tensorboardX import GlobalSummaryWriter, FileWriter", [REPLACED, "not replaced: only SummaryWriter is"]),
        ("def f():\n    import tensorboardX", [REPLACED]),
        ("importlib.import_module('tensorboardX')", [REPLACED]),
        ("import lightning.pytorch as pl", ["the SummaryWriter of its TensorBoard logger is replaced"]),
        ("from transformers import Trainer", ["the SummaryWriter of its TensorBoard logger is replaced"]),
        ("from torch.utils.tensorboard.summary import hparams", []),
        ("import torch, tensorboard, tensorboardXY, lightningly\nfrom . import tensorboardX", []),
    ],
)
def test_an_import_that_leads_to_a_writer_is_found(line: str, effects: list[str], tmp_path: Path) -> None:
    write(tmp_path, train=line)
    found = look_at(find_program(str(tmp_path / "train.py"), is_module=False)).found
    assert [each.effect for each in found] == effects


def test_an_import_is_found_with_its_file_line_and_text(tmp_path: Path) -> None:
    write(tmp_path, train="import os\n\nfrom tensorboardX import SummaryWriter as W")
    [found] = look_at(find_program(str(tmp_path / "train.py"), is_module=False)).found
    assert found[:3] == (tmp_path / "train.py", 3, "from tensorboardX import SummaryWriter")


def test_imports_of_the_programs_own_files_are_followed(tmp_path: Path) -> None:
    """Those of a package from within too; each file once, although the files import one another in a circle."""
    write(
        tmp_path,
        train="import logs.board\nfrom models import big",
        logs____init__="",
        logs__board="from .deep import x\nfrom . import sibling\nfrom .. import nothing\nimport train",
        logs__deep="import tensorboardX",
        logs__sibling="from torch.utils.tensorboard import SummaryWriter",
        models="import torch",
        unused="import tensorboardX",
    )
    (tmp_path / "logs" / "__init__.py").touch()
    look = look_at(find_program(str(tmp_path / "train.py"), is_module=False))
    assert [each.path.name for each in look.found] == ["deep.py", "sibling.py"]
    assert (look.files, look.complete) == (6, True)


def test_a_program_of_many_files_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_imports, "FILES_MAX", 2)
    write(tmp_path, train="import a, b, c", a="", b="", c="")
    look = look_at(find_program(str(tmp_path / "train.py"), is_module=False))
    assert (look.files, look.complete) == (2, False)


def test_a_bad_file_of_the_program_is_left_out_and_a_bad_first_file_is_told(tmp_path: Path) -> None:
    write(tmp_path, train="import bad", bad="import (")
    assert look_at(find_program(str(tmp_path / "train.py"), is_module=False)).files == 1
    with pytest.raises(SyntaxError, match=r"bad\.py"):
        look_at(find_program(str(tmp_path / "bad.py"), is_module=False))


def test_a_file_in_its_own_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes("# coding: latin-1\ns = 'é'\nimport tensorboardX".encode("latin-1"))
    assert len(look_at(find_program(str(tmp_path / "train.py"), is_module=False)).found) == 1


def test_a_folder_is_its_main_file(tmp_path: Path) -> None:
    write(tmp_path, __main__="import tensorboardX")
    (tmp_path / "__main__.py").write_text("import tensorboardX")
    assert find_program(str(tmp_path), is_module=False).path == tmp_path / "__main__.py"


def test_a_module_is_found_and_its_packages_are_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, peer__train="from peer.inner import x")
    for name, text in {"__init__": "raise SystemExit", "__main__": "", "inner": "import tensorboardX"}.items():
        (tmp_path / "peer" / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    program = find_program("peer.train", is_module=True)
    assert (program.path, program.folder, program.top) == (tmp_path / "peer/train.py", tmp_path, "")
    assert [each.path.name for each in look_at(program).found] == ["inner.py"]
    assert find_program("peer", is_module=True).path == tmp_path / "peer/__main__.py"
    assert "peer" not in sys.modules


def test_of_an_installed_module_the_other_installed_packages_are_not_followed() -> None:
    program = find_program("tensorboardX.writer", is_module=True)
    assert (program.path.name, program.top) == ("writer.py", "tensorboardX")
    look = look_at(program)
    assert look.files > 1
    assert look.complete


@pytest.mark.parametrize(
    ("script", "is_module", "message"),
    [
        ("no/such.py", False, "no such script: no/such.py"),
        (".", False, "no such script: __main__.py"),
        ("no_such_module", True, "no module named no_such_module"),
        ("os.no_such_module", True, "no module named os.no_such_module"),
        ("sys", True, "module sys has no file"),
        ("json", True, "module json has no file .*__main__.py"),
    ],
)
def test_what_is_no_program_is_told(
    script: str, is_module: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"^{message}"):
        find_program(script, is_module=is_module)
