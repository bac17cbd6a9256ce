"""Objects that hear of a fork: in the child alone, each, and only while they live."""

import gc
from collections.abc import Callable

import pytest
from support.machine.children import fork

from tensorboard_sidecar.protocol.outbox import forks
from tensorboard_sidecar.protocol.outbox.forks import call_in_children


class Inherited:
    def __init__(self, heard: Callable[[], object] = lambda: None) -> None:
        self.forks = 0
        self._heard = heard
        call_in_children(self.forked)

    def forked(self) -> None:
        self.forks += 1
        self._heard()


def fail() -> None:
    raise ValueError("in the child")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_calls_each_object_once_also_after_an_error() -> None:
    inherited = [Inherited(), Inherited(fail), Inherited(fail), Inherited()]

    def child() -> None:
        assert [each.forks for each in inherited] == [1, 1, 1, 1]

    assert fork(child) == 0
    assert [each.forks for each in inherited] == [0, 0, 0, 0]


def test_an_object_that_is_gone_leaves_nothing_behind() -> None:
    gc.collect()
    before = len(forks._METHODS)
    kept = Inherited()
    for _ in range(1_000):
        Inherited()
    assert len(forks._METHODS) == before + 1
    del kept
    gc.collect()
    assert len(forks._METHODS) == before
