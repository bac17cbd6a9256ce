"""What a disk may hold after the power went: all that was made durable, and of the rest as much as chance likes.

Of the names that changed in a folder since its last sync a first part is kept: file systems order those. Of the bytes
written to a file since its last sync some are kept; what is missing is gone, or zeros, or what lay there before.
"""

import base64
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any


class _File:
    """A file's bytes, those of them that are durable, and those that never will be, since a sync of them failed."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.durable = bytes(data)
        self._dropped: list[tuple[int, int]] = []

    def sync(self) -> None:
        """Make all durable but what was dropped: the kernel calls that clean, and writes it no more."""
        durable = bytearray(self.data)
        for start, end in self._dropped:
            durable[start:end] = bytes(end - start)
        self.durable = bytes(durable)

    def fail_sync(self) -> None:
        """Drop what was not durable yet."""
        if len(self.data) > len(self.durable):  # not behind a cut, which is dropped with nothing in it
            self._dropped.append((len(self.durable), len(self.data)))

    def cut(self, size: int) -> None:
        """Forget what lies beyond."""
        del self.data[size:]
        self._dropped = [(start, min(end, size)) for start, end in self._dropped if start < size]

    def after_power_loss(self, chance: Random) -> bytes:
        """Return what may be found."""
        if not self.data.startswith(self.durable):  # cut since: the cut itself may not have come to the disk
            return chance.choice([self.durable, bytes(self.data)])
        pending = bytes(self.data[len(self.durable) :])
        kept = pending[: chance.choice([0, len(pending), chance.randint(0, len(pending))])]
        lost = len(pending) - len(kept)
        return self.durable + _with_a_hole(kept, chance) + chance.choice([b"", bytes(lost), chance.randbytes(lost)])


def _with_a_hole(data: bytes, chance: Random) -> bytes:
    """Return what is left when a block in the middle did not come to the disk, half of the times."""
    first, last = sorted(chance.choices(range(len(data) + 1), k=2))
    return data if chance.random() < 0.5 else data[:first] + bytes(last - first) + data[last:]


class Disk:
    """The files below ``root`` as a disk has them, told by the notes of a :class:`DiskShim`.

    What lies below ``root`` at construction is durable.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._files: dict[int, _File] = {}
        self._entries: dict[str, int | None] = {}  # by path: an inode, None for a folder
        self._durable_entries: dict[str, int | None] = {}
        self._pending: dict[str, list[Callable[[dict[str, int | None]], None]]] = {}
        for path in sorted(self._root.rglob("*")):
            inode = None if path.is_dir() else path.stat().st_ino
            if inode is not None:
                self._files[inode] = _File(path.read_bytes())
            self._entries[str(path)] = self._durable_entries[str(path)] = inode

    def replay(self, notes: Path) -> None:
        """Take in what happened."""
        for line in notes.read_text().splitlines():
            self._take(json.loads(line)[1:])

    def contents(self) -> dict[str, bytes]:
        """Return all files by relative path, as they are while the power is on."""
        return self._read(self._entries, lambda file: bytes(file.data))

    def after_power_loss(self, chance: Random) -> dict[str, bytes]:
        """Return files by relative path, as they may be after the power went."""
        entries = dict(self._durable_entries)
        for changes in self._pending.values():
            for change in changes[: chance.choice([0, len(changes), chance.randint(0, len(changes))])]:
                change(entries)
        reachable = {path: inode for path, inode in entries.items() if self._has_folders(path, entries)}
        return self._read(reachable, lambda file: file.after_power_loss(chance))

    def _has_folders(self, path: str, entries: Iterable[str]) -> bool:
        return all(str(above) in entries for above in Path(path).parents if self._root in above.parents)

    def _read(self, entries: dict[str, int | None], read: Callable[[_File], bytes]) -> dict[str, bytes]:
        return {
            str(Path(path).relative_to(self._root)): read(self._files[inode])
            for path, inode in sorted(entries.items())
            if inode is not None
        }

    def _take(self, note: list[Any]) -> None:
        match note:
            case ["create", path, inode]:
                self._files[inode] = _File()
                self._change(path, lambda entries: entries.__setitem__(path, inode))
            case ["mkdir", path]:
                self._change(path, lambda entries: entries.__setitem__(path, None))
            case ["remove", path]:
                self._change(path, lambda entries: entries.pop(path, None))
            case ["rename", source, target]:
                self._change(source, lambda entries: _rename(entries, source, target))
            case ["write", inode, at, data]:
                file, written = self._files[inode], base64.b64decode(data)
                file.data[at : at + len(written)] = written
            case ["truncate", inode, size]:
                self._files[inode].cut(size)
            case ["sync", inode]:
                self._files[inode].sync()
            case ["failed sync", inode]:
                self._files[inode].fail_sync()
            case ["sync folder", path]:
                for change in self._pending.pop(path, []):
                    change(self._durable_entries)
            case ["hangs"]:
                pass
            case _:
                raise AssertionError(f"a note that means nothing: {note}")

    def _change(self, path: str, change: Callable[[dict[str, int | None]], object]) -> None:
        change(self._entries)
        self._pending.setdefault(str(Path(path).parent), []).append(lambda entries: change(entries) and None)


def _rename(entries: dict[str, int | None], source: str, target: str) -> None:
    if source in entries:  # where the file's own name was lost, so is the new one
        entries[target] = entries.pop(source)


def write_files(root: Path, files: dict[str, bytes]) -> Path:
    """Make a folder that holds ``files``; return it."""
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root
