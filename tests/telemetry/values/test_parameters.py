"""What people give as settings: what has a text is shown, what has none costs only itself, and nothing waits."""

import enum
import functools
import math
import threading
from argparse import Namespace
from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from time import perf_counter
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.kinds import check_message
from tensorboard_sidecar.protocol.limits import LABEL_MAX_CHARACTERS, TAGS_MAX
from tensorboard_sidecar.protocol.messages import HParams, RunStart
from tensorboard_sidecar.telemetry.values.parameters import DEPTH_MAX, NESTED_MAX, plain_parameters

META = torch.zeros(3, device="meta")
ELEMENT = torch.zeros((), device="meta")


class Colour(enum.Enum):
    RED = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Flags(enum.Flag):
    A = 1
    B = 2


class Raising:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Titled:
    def __str__(self) -> str:
        return "a title"


class Holding:
    """An object whose text shows its tensor, and an object without a text of its own."""

    def __repr__(self) -> str:
        return f"Holding({META}, {ELEMENT:.2f}, {object()})"


class Reading:
    def __str__(self) -> str:
        return str(ELEMENT.item())


@dataclass
class Optimizer:
    lr: float = 0.5
    betas: tuple[float, float] = (0.9, 0.99)
    extra: dict[str, Any] = field(default_factory=dict)


class Struct(msgspec.Struct):
    depth: int = 3


Pair = namedtuple("Pair", "first second")  # noqa: PYI024 - people have such ones
IDENTICAL = [True, False, 0, -1, 2**53, 0.5, math.inf, "", "x", "ü"]


@pytest.mark.parametrize("value", IDENTICAL)
def test_bools_numbers_and_texts_stay(value: Any) -> None:
    found = plain_parameters({"a": value})
    assert found == ({"a": value}, "", "")
    assert type(found.values["a"]) is type(value)


def test_not_a_number_stays() -> None:
    assert math.isnan(float(plain_parameters({"a": math.nan}).values["a"]))


NUMBERS: list[tuple[Any, Any]] = [
    (np.float64(2.5), 2.5),
    (np.float16(0.5), 0.5),
    (np.int32(3), 3),
    (np.bool_(False), False),
    (np.str_("x"), "x"),
    (np.array(3), 3),
    (np.array([1.5]), 1.5),
    (np.longdouble(1), "1.0"),
    (torch.tensor(2), 2),
    (torch.tensor([0.5], requires_grad=True), 0.5),
    (torch.tensor(True), True),
    (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
]


@pytest.mark.parametrize(("value", "plain"), NUMBERS, ids=repr)
def test_numbers_of_numpy_and_torch_in_host_memory_are_pythons(value: Any, plain: Any) -> None:
    found = plain_parameters({"a": value})
    assert found == ({"a": plain}, "", "")
    assert type(found.values["a"]) is type(plain)


TEXTS: list[tuple[Any, str]] = [
    (None, "None"),
    ([32, 128], "[32, 128]"),
    ((1,), "(1,)"),
    ((0.9, 0.99), "(0.9, 0.99)"),
    ([], "[]"),
    ((), "()"),
    ({}, "{}"),
    (Namespace(), "Namespace()"),
    (["a", None, Path("b"), Colour.RED, [True]], "['a', None, b, RED, [True]]"),
    ({3, 1, 10, 2}, "{1, 2, 3, 10}"),
    ({"b", "a"}, "{'a', 'b'}"),
    (frozenset({("b", 1), ("a", 2)}), "{('a', 2), ('b', 1)}"),
    (deque([1, 2]), "[1, 2]"),
    (UserList([1]), "[1]"),
    ({"k": 1}.keys(), "{'k'}"),
    ({"k": 1}.values(), "[1]"),
    ([{"a": {"b": 1}}], "[{a: {b: 1}}]"),
    ([Optimizer()], "[Optimizer(lr=0.5, betas=(0.9, 0.99), extra={})]"),
    ([object(), Raising()], "[<object>, <Raising>]"),
    (Path("a/b"), "a/b"),
    (PurePosixPath("c"), "c"),
    (Colour.RED, "RED"),
    (Mode.FAST, "FAST"),
    (Flags.A | Flags.B, "A|B"),
    (torch.float32, "torch.float32"),
    (torch.device("cuda", 1), "cuda:1"),
    (torch.Size([2, 3]), "(2, 3)"),
    (np.dtype("f4"), "float32"),
    (range(3), "range(0, 3)"),
    (slice(1, 2), "slice(1, 2, None)"),
    (date(2026, 1, 2), "2026-01-02"),
    (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02 03:04:00+00:00"),
    (timedelta(minutes=5), "0:05:00"),
    (Decimal("1.10"), "1.10"),
    (Fraction(1, 3), "1/3"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (1j, "1j"),
    (b"x", "b'x'"),
    (bytearray(b"x"), "b'x'"),
    (2**53 + 1, "9007199254740993"),
    (-(2**70), "-1180591620717411303424"),
    (np.uint64(2**64 - 1), "18446744073709551615"),
    (10**5000, "an int of 16,610 bits"),
    (len, "len"),
    (int, "int"),
    (nn.Linear, "torch.nn.modules.linear.Linear"),
    (plain_parameters, "tensorboard_sidecar.telemetry.values.parameters.plain_parameters"),
    (functools.partial(max, 1, key=len), "partial(max, 1, key=len)"),
    (np, "numpy"),
    (nn.ReLU(), "ReLU()"),
    (ValueError("x"), "x"),
    (Titled(), "a title"),
    (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
    (np.zeros((1000, 1000)), "float64 array of shape (1000, 1000)"),
    (torch.ones(2), "[1.0, 1.0]"),
    (torch.ones(0), "[]"),
    (torch.ones(1000, 2), "torch.float32 array of shape (1000, 2)"),
    (torch.eye(2).to_sparse(), "torch.float32 array of shape (2, 2)"),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (META, "tensor on meta of shape (3,)"),
    ([ELEMENT], "[tensor on meta of shape ()]"),
    (nn.Parameter(META), "tensor on meta of shape (3,)"),
    (Holding(), "Holding(tensor on meta of shape (3,), tensor on meta of shape (), <object object>)"),
    (torch.distributions.Normal(ELEMENT, 1.0, validate_args=False), None),
    ("a\ud800", "a\ufffd"),
    (["a\ud800"], "['a\ufffd']"),
    (Path("a\udcff"), "a\ufffd"),
]


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=[str(number) for number in range(len(TEXTS))])
def test_what_has_a_text_is_shown_as_its_text(value: Any, text: str | None) -> None:
    found = plain_parameters({"before": 1, "a": value, "after": 2})
    expected = "Normal(loc: tensor on meta of shape (), scale: tensor on meta of shape ())" if text is None else text
    assert found == ({"before": 1, "a": expected, "after": 2}, "", "")
    check_message(RunStart(0, found.values))
    encode_body(RunStart(0, found.values))


def test_a_function_inside_of_another_has_no_address() -> None:
    assert str(plain_parameters({"a": lambda: 0}).values["a"]).endswith(".<lambda>")


WITHOUT_TEXT = {
    "an object": (object(), "is a object without a text"),
    "a lock": (threading.Lock(), "is a lock without a text"),
    "an iterator": (iter([1]), "is a list_iterator without a text"),
    "a generator": ((number for number in [1]), "is a generator without a text"),
    "a generator of torch": (torch.Generator(), "is a Generator without a text"),
    "an object that raises": (Raising(), "RuntimeError: no text"),
    "an object that reads a device": (Reading(), "holds a tensor on meta of shape (), which the loop would wait for"),
}


@pytest.mark.parametrize(("value", "reason"), WITHOUT_TEXT.values(), ids=WITHOUT_TEXT)
def test_what_has_no_text_costs_only_itself_and_is_named(value: Any, reason: str) -> None:
    found = plain_parameters({"before": 1, "a": {"b": value, "c": 3}, "after": 2})
    assert found == ({"before": 1, "a/c": 3, "after": 2}, f"a/b ({reason})", "")


NESTED: list[tuple[Any, dict[str, Any]]] = [
    ({"a": {"b": {"c": 1}}}, {"a/b/c": 1}),
    (Namespace(a=1, b=SimpleNamespace(c=2)), {"a": 1, "b/c": 2}),
    (Optimizer(extra={"x": 1}), {"lr": 0.5, "betas": "(0.9, 0.99)", "extra/x": 1}),
    ({"o": Optimizer()}, {"o/lr": 0.5, "o/betas": "(0.9, 0.99)", "o/extra": "{}"}),
    (Pair(1, Pair(2, 3)), {"first": 1, "second/first": 2, "second/second": 3}),
    (Struct(), {"depth": 3}),
    (OrderedDict(a=defaultdict(int, b=1)), {"a/b": 1}),
    (UserDict({"a": 1}), {"a": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (
        {1: 1, None: 2, ("a", 1): 3, Colour.RED: 4, Path("p"): 6, 0.5: 7},
        {"1": 1, "None": 2, "('a', 1)": 3, "RED": 4, "p": 6, "0.5": 7},
    ),
    ({}, {}),
    (Namespace(), {}),
]


@pytest.mark.parametrize(("settings", "values"), NESTED, ids=[str(number) for number in range(len(NESTED))])
def test_nested_settings_are_flat(settings: Any, values: dict[str, Any]) -> None:
    assert plain_parameters(settings) == (values, "", "")


def test_objects_of_attrs_and_of_duck_mappings_are_flat() -> None:
    attribute = SimpleNamespace(name="lr")
    like_attrs = type("LikeAttrs", (), {"__attrs_attrs__": (attribute,), "lr": 0.5})()
    like_pydantic = type("LikePydantic", (), {"model_fields": {"depth": None}, "depth": 2})()
    duck = type("Duck", (), {"keys": lambda _: ["a"], "__getitem__": lambda _, key: f"value of {key}"})()
    found = plain_parameters({"x": like_attrs, "y": like_pydantic, "z": duck})
    assert found == ({"x/lr": 0.5, "y/depth": 2, "z/a": "value of a"}, "", "")


def test_settings_of_omegaconf_are_flat_and_what_is_missing_costs_only_itself() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {"a": {"b": [1, {"c": 2}], "missing": "???", "same": "${a.b}", "wrong": "${nothing}"}, "lr": 0.5, "n": None}
    )
    found = plain_parameters(config)
    assert found.values == {"a/b": "[1, {c: 2}]", "a/same": "[1, {c: 2}]", "lr": 0.5, "n": "None"}
    assert "a/missing (MissingMandatoryValue" in found.left_out
    assert "a/wrong (InterpolationKeyError" in found.left_out


@pytest.mark.parametrize("settings", [None, [1], "lr=1", 5, Optimizer, object(), [("lr", 1)], META, np.zeros(3), {1}])
def test_settings_without_names_are_an_error(settings: object) -> None:
    with pytest.raises(
        TypeError, match=r"expected parameters by name: a mapping, an argparse\.Namespace or a dataclass"
    ):
        plain_parameters(settings)


def test_keys_that_are_shown_alike_are_both_kept_and_said() -> None:
    found = plain_parameters({"1": "a", 1: "b", "x/y": 1, "x": {"y": 2}, "": 3, "a\nb": 4})
    assert found.values == {"1": "a", "1 (2)": "b", "x/y": 1, "x/y (2)": 2, "untitled": 3, "a\u240ab": 4}
    assert "1 (is shown as '1 (2)')" in found.changed
    assert "x/y (is shown as 'x/y (2)')" in found.changed


def test_a_key_without_a_text_costs_only_its_value() -> None:
    found = plain_parameters({"a": 1, object(): 2, Raising(): 3, "b": 4})
    assert found.values == {"a": 1, "b": 4}
    assert found.left_out == "<object> (is a object without a text), <Raising> (RuntimeError: no text)"


def test_settings_that_hold_themselves_or_are_very_deep_cost_only_that_part() -> None:
    circle: dict[str, Any] = {"a": 1}
    circle["self"] = circle
    lists: list[Any] = [1]
    lists += [lists, lists]
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(5000):
        inner["n"] = {}
        inner = inner["n"]
    inner["x"] = 1
    found = plain_parameters({"circle": circle, "lists": lists, "deep": deep, "after": 2})
    assert {name: found.values[name] for name in ("circle/a", "after")} == {"circle/a": 1, "after": 2}
    assert str(found.values["lists"]).startswith("[1, [1, [1, ")
    assert set(found.values) == {"circle/a", "lists", "after"}
    assert "circle/self (contains itself)" in found.left_out
    assert f"(is nested deeper than {DEPTH_MAX} levels)" in found.left_out


LONG = {
    "a text": ("x" * 5000, "x", "\N{HORIZONTAL ELLIPSIS} (5,000 characters)"),
    "a list": (list(range(10**6)), "[0, 1, 2", "\N{HORIZONTAL ELLIPSIS} (1,000,000 items)"),
    "a tuple of texts": (("y" * 10**6, "z"), "('yyy", "\N{HORIZONTAL ELLIPSIS} (2 items)"),
    "a vocabulary": ({f"word{n}": n for n in range(NESTED_MAX + 1)}, "{word0: 0, ", " (1,001 items)"),
    "bytes": (bytes(10**6), "b'", " characters)"),
}


@pytest.mark.parametrize(("value", "start", "end"), LONG.values(), ids=LONG)
def test_a_text_that_is_too_long_is_cut_with_a_mark_and_said(value: Any, start: str, end: str) -> None:
    found = plain_parameters({"before": 1, "long": value, "after": 2})
    text = str(found.values["long"])
    assert text.startswith(start)
    assert text.endswith(end)
    assert len(text) == LABEL_MAX_CHARACTERS
    assert found == ({"before": 1, "long": text, "after": 2}, "", "long (is cut)")


def test_a_very_large_set_is_named_by_its_size() -> None:
    assert plain_parameters({"a": set(range(10**5))}).values == {"a": "a set of 100,000 items"}


def test_the_first_parameters_of_too_many_are_kept() -> None:
    found = plain_parameters({n: n for n in range(TAGS_MAX + 5)})
    assert list(found.values.values()) == list(range(TAGS_MAX))
    assert found.left_out == f"all others (there are too many; the first {TAGS_MAX:,} are kept)"
    check_message(HParams(found.values, {}))


def test_texts_that_are_too_many_leave_the_numbers() -> None:
    found = plain_parameters({n: "x" * 4000 if n % 2 else n for n in range(1000)})
    assert [value for value in found.values.values() if isinstance(value, int)] == list(range(0, 1000, 2))
    assert 200 < sum(isinstance(value, str) for value in found.values.values()) < 300
    assert "leaves no room" in found.left_out
    assert found.left_out.endswith("more")
    assert len(found.left_out) < 2000


class Endless(Mapping[str, Any]):
    """A mapping whose keys never end."""

    def __getitem__(self, key: str) -> object:
        return object()

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield str(number)

    def __len__(self) -> int:
        return 3


class Breaking(Endless):
    def __iter__(self) -> Iterator[str]:
        yield "a"
        raise RuntimeError("changed size")


def test_a_mapping_that_never_ends_or_breaks_costs_only_the_rest() -> None:
    assert plain_parameters(Endless()).left_out.endswith("991 more")
    found = plain_parameters({"before": 1, "broken": Breaking(), "after": 2})
    assert found.values == {"before": 1, "after": 2}
    assert "broken (RuntimeError: changed size)" in found.left_out
    assert "all others (RuntimeError: changed size)" in plain_parameters(Breaking()).left_out


def test_the_work_is_bounded() -> None:
    """It is done on the training thread."""
    huge = {
        "list": list(range(10**7)),
        "text": "x" * 10**7,
        "words": dict.fromkeys(range(10**6)),
        "set": set(range(10**6)),
        "array": np.zeros(10**7),
    }
    began = perf_counter()
    found = plain_parameters({**huge, "nested": [huge] * 100, "after": 1})
    assert perf_counter() - began < 1, "some milliseconds on an idle core"
    assert found.values["after"] == 1
    assert not found.left_out


RUBBISH = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.binary(max_size=8)
    | st.builds(object)
    | st.builds(Raising)
    | st.just(10**4000)
    | st.sampled_from([META, torch.ones(2), np.zeros(2), np.zeros((), "O"), Colour.RED, "x" * 600, str, iter([])]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(st.characters(), max_size=5) | st.integers() | st.none(), inner, max_size=3)
        | inner.map(lambda value: Namespace(value=value))
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(), max_size=8) | st.integers(), RUBBISH, max_size=4))
def test_whatever_is_given_is_taken_by_the_logger(settings: dict[Any, Any]) -> None:
    found = plain_parameters(settings)
    check_message(RunStart(0, found.values))
    check_message(HParams(found.values, {}))
    encode_body(RunStart(0, found.values))


def test_the_sentences_for_people_can_be_written_to_any_log() -> None:
    """A log file in UTF-8 takes no lone surrogate, and a terminal no control character."""
    made = plain_parameters({"t\ud800": 1, "a\x1b[2J": object(), "b\udfff": object()})
    assert made.changed.isprintable()
    assert made.left_out.isprintable()
    assert "\\ud800" in made.changed
