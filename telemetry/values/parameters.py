"""Settings of users to parameters: flat names with bools, numbers and texts, as the logger and TensorBoard show them.

A mapping, an ``argparse.Namespace``, a dataclass, an OmegaConf config or a similar object becomes parameters. Nested
objects of these kinds are flattened: the name of a parameter is the keys that lead to it, separated by ``/``.

Rule 1: what can be shown is kept. A value that is no bool, number or text is kept as its text.
Rule 2: a value costs only itself. A value without a text (its text is an address, or making the text raises) is left
out and named.
Rule 3: the work is bounded, because the training thread does it. Long texts are cut, and of a container only the items
that fit the text are read.
Rule 4: no tensor on a device is read, not even by the ``repr`` of an object that holds it: the training thread would
wait.
"""

import dataclasses
import re
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Sized, ValuesView
from collections.abc import Set as AbstractSet
from contextlib import suppress
from enum import Enum
from functools import partial
from itertools import chain, islice
from os import PathLike, fsdecode, fspath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tensorboard_sidecar.protocol.limits import LABEL_MAX_CHARACTERS, STEP_MAX, TAGS_MAX
from tensorboard_sidecar.protocol.messages import ParameterValue
from tensorboard_sidecar.protocol.printable import printable
from tensorboard_sidecar.telemetry.values.tags import CUT_MARK, distinct_tag, shown_tag

DEPTH_MAX: Final = 16
# The texts of all parameters together: TensorBoard shows the config as one table.
TEXTS_MAX_CHARACTERS: Final = 2**20
# Items of a nested mapping that is flattened. A larger mapping, like a vocabulary, is kept as one text: flattened, its
# items would leave no room for other parameters.
NESTED_MAX: Final = 1_000
# Parameters without a text: each of them costs the training thread some microseconds.
_LEFT_OUT_MAX: Final = 1_000
# Items of a set that is sorted, so that its text is the same in every process; elements of an array that is shown.
_SORTED_MAX: Final = 10_000
_ELEMENTS_MAX: Final = 1_000
# The interpreter refuses to write an int of more than 4,300 decimal digits.
_INT_MAX_BITS: Final = 8_192
_NAMED_MAX: Final = 10
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_ONLY_ADDRESS: Final = re.compile(rf"<.*{_ADDRESS.pattern}>")

Field: TypeAlias = tuple[object, Callable[[], object]]
"""A key, and the function that reads its value: reading an OmegaConf interpolation may raise."""


class NoText(ValueError):
    """A value that cannot be shown; the message says why."""


class Parameters(NamedTuple):
    """Parameters by name, and sentences about those that are left out or shown in another form, or ``""``."""

    values: dict[str, ParameterValue]
    left_out: str = ""
    changed: str = ""


def plain_parameters(settings: object) -> Parameters:
    """Return the parameters of a mapping or of an object with named fields. Raises TypeError for another object.

    >>> plain_parameters({"optimizer": {"lr": 1e-3, "betas": (0.9, 0.95)}, "resume": None}).values
    {'optimizer/lr': 0.001, 'optimizer/betas': '(0.9, 0.95)', 'resume': 'None'}
    """
    fields = _fields(settings)
    if fields is None:
        raise TypeError(
            f"a {_kind(settings)}; expected parameters by name: a mapping, an argparse.Namespace or a dataclass"
        )
    flat = _Flat()
    flat.add_all(settings, fields)
    return Parameters(flat.values, _sentence(flat.left_out), _sentence(flat.changed))


class _Full(Exception):
    """No more parameters, or no more text, can be kept."""


class _Flat:
    """Collects parameters; ``left_out`` and ``changed`` have a reason by name."""

    def __init__(self) -> None:
        self.values: dict[str, ParameterValue] = {}
        self.left_out: dict[str, str] = {}
        self.changed: dict[str, str] = {}
        self._characters = 0

    def add_all(self, settings: object, fields: Iterator[Field]) -> None:
        """Add the fields of the user's object."""
        try:
            self._add_fields("", fields, (id(settings),))
        except _Full as full:
            self.left_out["all others"] = str(full)
        except Exception as error:  # noqa: BLE001 - a mapping may raise anything while it is read
            self.left_out["all others"] = _reason(error)

    def _add_fields(self, prefix: str, fields: Iterator[Field], above: tuple[int, ...]) -> None:
        for key, read in fields:
            if len(self.left_out) >= _LEFT_OUT_MAX:
                raise _Full("too many are without a text")
            name = f"{prefix}<{_kind(key)}>"
            try:
                name = f"{prefix}{_name(key)}"
                self._add(name, read(), above)
            except _Full:
                raise
            except Exception as error:  # noqa: BLE001 - the other parameters are kept, whatever the error
                self.left_out[name] = _reason(error)

    def _add(self, name: str, value: object, above: tuple[int, ...]) -> None:
        fields = _fields(value)
        first = None if fields is None else next(fields, None)
        if fields is None or first is None or (isinstance(value, Sized) and len(value) > NESTED_MAX):
            self._keep(name, *_plain(value))
        elif id(value) in above:
            raise NoText("contains itself")
        elif len(above) >= DEPTH_MAX:
            raise NoText(f"is nested deeper than {DEPTH_MAX} levels")
        else:
            self._add_fields(f"{name}/", chain((first,), fields), (*above, id(value)))

    def _keep(self, name: str, value: ParameterValue, cut: bool) -> None:
        shown = distinct_tag(shown_tag(name), self.values)
        if len(self.values) >= TAGS_MAX:
            raise _Full(f"there are too many; the first {TAGS_MAX:,} are kept")
        if isinstance(value, str):
            if self._characters + len(value) > TEXTS_MAX_CHARACTERS:
                raise NoText(f"the texts before take {self._characters:,} characters, which leaves no room")
            self._characters += len(value)
        self.values[shown] = value
        if cut or shown != name:
            self.changed[name] = "is cut" if cut else f"is shown as {shown!r:.80}"


class _Writer:
    """Collects a text of at most LABEL_MAX_CHARACTERS."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._room = LABEL_MAX_CHARACTERS

    def write(self, piece: str) -> None:
        """Append to the text. Raises _Full when the text is longer than the limit."""
        self._pieces.append(piece)
        self._room -= len(piece)
        if self._room < 0:
            raise _Full

    def text(self) -> str:
        """Return the text so far."""
        return "".join(self._pieces)


class Unread(TorchFunctionMode):
    """Within this mode a tensor on a device has a text without its values, and reading its values raises TypeError."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        subject = args[0] if args else None
        if isinstance(subject, Tensor) and not subject.is_cpu and getattr(func, "__name__", "") not in _READS_NOTHING:
            if func in (Tensor.__repr__, Tensor.__format__):
                return _describe(subject)
            raise NoText(f"holds a {_describe(subject)}, which the loop would wait for")
        return func(*args, **(kwargs or {}))


_READS_NOTHING: Final = {"__get__", "size", "dim", "numel", "stride", "is_complex", "is_floating_point", "__len__"}


def _fields(value: object) -> Iterator[Field] | None:
    """Return keys and values of an object with named fields; None for another object."""
    kind = type(value)
    if isinstance(value, Mapping) or (hasattr(kind, "keys") and hasattr(kind, "__getitem__")):
        return _items(value)
    if isinstance(value, Namespace | SimpleNamespace):
        return _fields(dict(vars(value)))
    if isinstance(value, tuple):
        names = getattr(kind, "_fields", None)
    elif dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
    else:  # msgspec, pydantic
        names = getattr(kind, "__struct_fields__", None) or getattr(kind, "model_fields", None)
    return None if names is None else ((name, partial(getattr, value, name)) for name in names)


def _items(mapping: Any) -> Iterator[Field]:
    """Yield the keys of a mapping with functions that read the values. The mapping may raise anything."""
    for key in mapping.keys():  # noqa: SIM118 - ml_collections and others are no Mapping
        yield key, partial(mapping.__getitem__, key)


def _is_container(value: object) -> TypeGuard[Collection[object]]:
    return isinstance(value, _CONTAINERS) and not isinstance(value, _TEXT_OF_THEIR_OWN)


def _name(key: object) -> str:
    if isinstance(key, str) and not isinstance(key, Enum):
        return str.__str__(key)
    name, _ = _plain(key)
    return str(name)


def _plain(value: object) -> tuple[ParameterValue, bool]:
    """Return a value as a parameter, and whether its text is cut. Raises NoText, and what the object raises."""
    if isinstance(value, Enum) or value is None:
        return _short(str(getattr(value, "name", None) or value))
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = _host_value(value)
    if isinstance(value, bool | float):
        return (value if isinstance(value, bool) else float(value)), False
    if isinstance(value, int) and abs(value) <= STEP_MAX:  # TensorBoard counts in doubles, which are exact to there
        return int(value), False
    if isinstance(value, str):
        return _short(str.__str__(value))
    if not _is_container(value):
        return _short(_object_text(value))
    writer = _Writer()
    try:
        _write(writer, value)
    except _Full:
        end = f"{CUT_MARK} ({len(value):,} items)"
        return writer.text()[: LABEL_MAX_CHARACTERS - len(end)] + end, True
    return writer.text(), False


def _short(text: str) -> tuple[str, bool]:
    if len(text) <= LABEL_MAX_CHARACTERS:
        return _encodable(text), False
    end = f"{CUT_MARK} ({len(text):,} characters)"
    return _encodable(text[: LABEL_MAX_CHARACTERS - len(end)]) + end, True


def _host_value(value: Any) -> Any:
    """Return the number or the elements of an array in host memory; a text for a large array and a device tensor."""
    if isinstance(value, Tensor) and not value.is_cpu:
        return _describe(value)
    size = value.numel() if isinstance(value, Tensor) else value.size
    if size > _ELEMENTS_MAX or (isinstance(value, Tensor) and value.layout != torch.strided):
        return f"{value.dtype} array of shape {tuple(value.shape)}"
    plain = value.item() if size == 1 else value.tolist()
    return str(plain) if isinstance(plain, np.generic) else plain  # a longdouble stays one


def _describe(tensor: Tensor) -> str:
    return f"tensor on {tensor.device} of shape {tuple(tensor.shape)}"


_CONTAINERS: Final = (Sequence, AbstractSet, ValuesView, Mapping)
_TEXT_OF_THEIR_OWN: Final = (str, bytes, bytearray, memoryview, range)
_BRACKETS: Final = ((tuple, ("(", ")")), (AbstractSet, ("{", "}")), (object, ("[", "]")))


def _write(writer: _Writer, value: object, depth: int = 0) -> None:
    """Write the text of a value in a container; of a container only the items that fit. Raises _Full."""
    if isinstance(value, str) and not isinstance(value, Enum):
        writer.write(repr(_encodable(str.__str__(value)[:LABEL_MAX_CHARACTERS])))
    elif depth > DEPTH_MAX:
        writer.write(CUT_MARK)
    elif isinstance(value, AbstractSet) and len(value) > _SORTED_MAX:
        writer.write(f"a set of {len(value):,} items")
    elif _is_container(value) and not isinstance(value, Mapping):
        left, right = next(brackets for kind, brackets in _BRACKETS if isinstance(value, kind))
        writer.write(left)
        for number, item in enumerate(_in_order(value) if isinstance(value, AbstractSet) else value):
            writer.write(", " if number else "")
            _write(writer, item, depth + 1)
        writer.write(f",{right}" if left == "(" and len(value) == 1 else right)
    elif (fields := _fields(value)) is not None:
        opening, between, closing = ("{", ": ", "}") if isinstance(value, Mapping) else (f"{_kind(value)}(", "=", ")")
        writer.write(opening)
        for number, (key, read) in enumerate(fields):
            writer.write(f"{', ' if number else ''}{_encodable(_name(key)[:LABEL_MAX_CHARACTERS])}{between}")
            _write(writer, read(), depth + 1)
        writer.write(closing)
    else:
        try:
            text = str(_plain(value)[0])
        except Exception:  # noqa: BLE001 - the other items are kept, whatever the error
            text = f"<{_kind(value)}>"
        writer.write(text)


def _kind(value: object) -> str:
    return type(value).__name__


def _in_order(items: AbstractSet[Any]) -> list[Any]:
    """Return the items of a set in an order that does not depend on hashes."""
    if all(isinstance(item, int | float) for item in items):
        return sorted(items)
    return sorted(items, key=_sort_text)


def _sort_text(item: object) -> str:
    writer = _Writer()
    with suppress(_Full):
        _write(writer, item)
    return writer.text()


def _object_text(value: Any) -> str:
    """Return the text of an object. Raises NoText where its text is only an address, and what the object raises."""
    if isinstance(value, PathLike):
        return fsdecode(fspath(value))
    if isinstance(value, type | FunctionType | BuiltinFunctionType | MethodType):
        module = value.__module__
        return value.__qualname__ if module in (None, "builtins") else f"{module}.{value.__qualname__}"
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, bytes | bytearray):
        return repr(bytes(value[:LABEL_MAX_CHARACTERS]))
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _INT_MAX_BITS else f"an int of {value.bit_length():,} bits"
    if isinstance(value, partial):
        given = chain(((each, "") for each in value.args), ((each, f"{key}=") for key, each in value.keywords.items()))
        texts = [f"{before}{_plain(each)[0]}" for each, before in islice(given, _ELEMENTS_MAX)]
        return f"partial({', '.join([str(_plain(value.func)[0]), *texts])})"
    with Unread():
        text = str(value)
    if _ONLY_ADDRESS.fullmatch(text):
        raise NoText(f"is a {_kind(value)} without a text")
    return _ADDRESS.sub("", text)


def _encodable(text: str) -> str:
    """Return a text that UTF-8 can encode: lone surrogates become U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _reason(error: Exception) -> str:
    if isinstance(error, NoText | _Full):
        return str(error)
    try:
        return f"{_kind(error)}: {str(error).partition(chr(10))[0]:.80}"
    except Exception:  # noqa: BLE001 - the text of an error may raise as well
        return _kind(error)


def _sentence(reasons: Mapping[str, str]) -> str:
    """Return the first names with their reasons, and the number of all; ``""`` without any."""
    if not reasons:
        return ""
    first = [printable(f"{name:.80} ({reason})") for name, reason in islice(reasons.items(), _NAMED_MAX)]
    more = f", and {len(reasons) - _NAMED_MAX:,} more" if len(reasons) > _NAMED_MAX else ""
    return ", ".join(first) + more
