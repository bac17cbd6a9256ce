"""Which calls of ``add_scalar`` the short path is asked for, and what the method gets."""

from typing import Any

import pytest

from tensorboard_sidecar.telemetry.writer.plain_scalars import keeps_plain_scalars


class Writer:
    """``asked`` are the calls that the short path was asked for, ``called`` those of the method."""

    def __init__(self, *, keeps: bool) -> None:
        self.telemetry = self.scalar_calls = self
        self.keeps = keeps
        self._default_walltime = None
        self.asked: list[tuple[Any, ...]] = []
        self.called: list[tuple[Any, ...]] = []

    def keep(self, *call: Any) -> bool:
        self.asked.append(call)
        return self.keeps

    @keeps_plain_scalars
    def add_scalar(self, tag: Any, scalar_value: Any, global_step: Any = None, walltime: Any = None) -> None:
        """Add a scalar."""
        self.called.append((tag, scalar_value, global_step, walltime))


def test_a_plain_call_goes_the_short_way() -> None:
    writer = Writer(keeps=True)
    writer.add_scalar("a", 1.0, 5)
    writer.add_scalar("a", 1.0, global_step=6)
    assert writer.asked == [("a", 1.0, 5), ("a", 1.0, 6)]
    assert writer.called == []


def test_a_call_that_the_short_way_does_not_keep_is_the_methods() -> None:
    writer = Writer(keeps=False)
    writer.add_scalar("a", 1.0, 5)
    writer.add_scalar("a", 1.0, global_step=6)
    assert writer.called == [("a", 1.0, 5, None), ("a", 1.0, 6, None)]


def test_every_other_call_is_the_methods_alone() -> None:
    writer = Writer(keeps=True)
    writer.add_scalar("a", 1.0)
    writer.add_scalar("a", 1.0, 5, 7.5)
    writer.add_scalar("a", 1.0, walltime=7.5)
    writer.add_scalar("a", 1.0, 5, walltime=7.5)
    writer.add_scalar(tag="a", scalar_value=1.0, global_step=5)
    assert writer.asked == []
    assert writer.called == [
        ("a", 1.0, None, None),
        ("a", 1.0, 5, 7.5),
        ("a", 1.0, None, 7.5),
        ("a", 1.0, 5, 7.5),
        ("a", 1.0, 5, None),
    ]


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), (("a",), {}), (("a", 1.0, 5, 7.5, 1), {}), (("a",), {"x": 1})])
def test_a_wrong_call_reaches_the_method_as_it_is(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The method's own guard makes a fault of the error."""
    with pytest.raises(TypeError, match="add_scalar"):
        Writer(keeps=True).add_scalar(*args, **kwargs)


def test_the_method_keeps_its_name_and_docstring() -> None:
    assert (Writer.add_scalar.__name__, Writer.add_scalar.__doc__) == ("add_scalar", "Add a scalar.")
