"""The hook, in this process, with a made-up library in the place of torch's and tensorboardX's."""

import importlib
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tensorboard_sidecar.telemetry.replacement.startup import sitecustomize

FILES = {
    "peer/__init__.py": "from peer.writer import FileWriter, SummaryWriter",
    "peer/writer.py": "class FileWriter: ...\nclass SummaryWriter: ...\nclass Own(SummaryWriter): ...",
    "peer/late.py": "from peer import SummaryWriter",
    "peer/torn.py": "class SummaryWriter: ...\nimport no_such_library",
}


class Ours:
    """What takes the place of the library's class."""


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "peer"]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the folder of the library ``peer``; install the hook for the duration of the test."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.syspath_prepend(tmp_path)  # type: ignore[no-untyped-call]
    names = ("SummaryWriter", "GlobalSummaryWriter")
    monkeypatch.setattr(sitecustomize, "REPLACED", {"peer": names, "peer.writer": names, "peer.torn": names})
    monkeypatch.setattr(sitecustomize, "_ours", lambda _name: Ours)
    monkeypatch.setattr(sitecustomize, "_told", [])
    yield tmp_path
    forget()


def imported(name: str) -> Any:
    return importlib.import_module(name)


def test_the_name_is_replaced_where_it_is_defined_and_wherever_it_is_exported() -> None:
    sitecustomize.install()
    assert [imported(name).SummaryWriter for name in ("peer", "peer.writer", "peer.late")] == [Ours] * 3


def test_other_names_stay_the_librarys_and_no_name_is_added() -> None:
    """A class of the library that is derived from the replaced class keeps its base."""
    sitecustomize.install()
    peer = imported("peer")
    assert peer.FileWriter.__module__ == "peer.writer"
    assert [base.__module__ for base in peer.writer.Own.__mro__] == ["peer.writer", "peer.writer", "builtins"]
    assert not hasattr(peer, "GlobalSummaryWriter")


def test_a_library_that_is_imported_already_is_replaced_at_once() -> None:
    peer = imported("peer")
    sitecustomize.install()
    assert peer.SummaryWriter is peer.writer.SummaryWriter is Ours


def test_the_hook_is_installed_once() -> None:
    before = len(sys.meta_path)
    sitecustomize.install()
    sitecustomize.install()
    assert len(sys.meta_path) == before + 1


def test_a_module_that_is_loaded_again_is_replaced_again() -> None:
    sitecustomize.install()
    module = imported("peer.writer")
    assert importlib.reload(module).SummaryWriter is Ours


def test_a_module_keeps_the_loader_that_it_would_have() -> None:
    sitecustomize.install()
    module = imported("peer.writer")
    assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
    assert "class SummaryWriter" in (module.__loader__.get_source("peer.writer") or "")


def test_looking_for_a_library_imports_nothing() -> None:
    sitecustomize.install()
    assert importlib.util.find_spec("peer") is not None
    assert "peer" not in sys.modules


def test_a_library_that_is_not_there_is_not_found(folder: Path) -> None:
    (folder / "peer").rename(folder / "elsewhere")
    sitecustomize.install()
    assert importlib.util.find_spec("peer") is None
    with pytest.raises(ModuleNotFoundError, match="No module named 'peer'"):
        imported("peer")


def test_an_error_of_the_library_is_the_librarys() -> None:
    sitecustomize.install()
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        imported("peer.torn")
    assert "peer.torn" not in sys.modules


def test_a_lazy_loader_is_replaced_at_its_first_use() -> None:
    sitecustomize.install()
    spec = importlib.util.find_spec("peer")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules["peer"] = module
    spec.loader.exec_module(module)
    assert "peer.writer" not in sys.modules
    assert module.SummaryWriter is Ours


def test_modules_of_a_zip_file_share_a_loader(folder: Path) -> None:
    with zipfile.ZipFile(folder / "peer.zip", "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    sys.path.insert(0, str(folder / "peer.zip"))
    sitecustomize.install()
    peer = imported("peer")
    assert "peer.zip" in peer.__file__
    assert peer.SummaryWriter is peer.writer.SummaryWriter is imported("peer.late").SummaryWriter is Ours


class AskingFinder:
    """A finder that asks all finders, as those of other tools do."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        return next(filter(None, others), None) if name.startswith("peer") else None


@pytest.mark.parametrize("first", [True, False], ids=["before", "behind"])
def test_another_finder_that_asks_all_finders_is_no_endless_search(first: bool) -> None:
    sitecustomize.install()
    sys.meta_path.insert(0 if first else 1, AskingFinder())
    assert imported("peer").SummaryWriter is Ours


class NoFinder:
    """A finder of an old protocol, which has no ``find_spec``."""


def test_a_finder_without_find_spec_is_passed_over() -> None:
    sitecustomize.install()
    sys.meta_path.insert(1, NoFinder())  # type: ignore[arg-type]
    assert imported("peer").SummaryWriter is Ours


def failing(name: str) -> object:
    raise ImportError(f"{name} needs\nmore")


def test_when_the_name_cannot_be_replaced_the_program_keeps_its_own_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sitecustomize, "_ours", failing)
    sitecustomize.install()
    peer = imported("peer")
    assert peer.SummaryWriter.__module__ == "peer.writer"
    assert capsys.readouterr().err == (
        "tensorboard-sidecar: the program uses peer.writer's own SummaryWriter: ImportError: SummaryWriter needs more\n"
    )


def test_a_loader_that_cannot_be_watched_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Closed:
        __slots__ = ()

        def create_module(self, _spec: ModuleSpec) -> None: ...

        def exec_module(self, module: ModuleType) -> None:
            module.__dict__["SummaryWriter"] = int

    class Finder:
        def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
            return ModuleSpec("peer", Closed()) if name == "peer" else None  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    sitecustomize.install()
    assert imported("peer").SummaryWriter is int
    assert capsys.readouterr().err.startswith("tensorboard-sidecar: the program uses peer's own SummaryWriter and Glo")


def test_a_failure_without_stderr_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitecustomize, "_ours", failing)
    monkeypatch.setattr(sys, "stderr", None)
    sitecustomize.install()
    assert imported("peer").SummaryWriter is not Ours


def test_the_loggers_own_import_of_tensorboardx_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The logger blocks torch meanwhile; a SummaryWriter of this project would need torch."""
    monkeypatch.setitem(sys.modules, "torch", None)
    sitecustomize.install()
    assert imported("peer").SummaryWriter.__module__ == "peer.writer"


def test_the_folder_of_the_hook_leaves_the_path_once() -> None:
    folder = str(Path(sitecustomize.__file__).parent.absolute())
    path = ["", folder, "libs", folder]
    sitecustomize.remove_folder(path)
    assert path == ["", "libs", folder]


def test_the_folder_holds_nothing_that_a_program_could_import_by_mistake() -> None:
    """The folder is on the path until the hook has removed it."""
    folder = Path(sitecustomize.__file__).parent
    assert {path.name for path in folder.glob("*.py")} == {"__init__.py", "sitecustomize.py"}
