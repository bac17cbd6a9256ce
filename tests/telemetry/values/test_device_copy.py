"""Copies from a device; tests without a GPU use torch's meta device, which has shapes and no values."""

import weakref
from collections.abc import Callable
from threading import Event, Thread

import numpy as np
import pytest
import torch

from tensorboard_sidecar.telemetry.values import device_copy
from tensorboard_sidecar.telemetry.values.device_copy import ArrivalFlag, CudaCopy, SnapshotCopy, start_copy

INTERVAL = device_copy._QUERY_INTERVAL_SECONDS


def needs_gpu(test: Callable[..., None]) -> Callable[..., None]:
    skip = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
    marked: Callable[..., None] = pytest.mark.cuda(skip(test))
    return marked


class AskedDevice:
    """A device that answers queries, or fails; ``asked`` counts the queries. ``now`` is the time in seconds."""

    def __init__(self) -> None:
        self.now, self.asked, self.done, self.broken = 0.0, 0, False, False
        self.flag = np.zeros(1, np.uint8)
        self.arrived = ArrivalFlag(self.flag, self.ask, lambda: self.now)

    def ask(self) -> bool:
        self.asked += 1
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")
        return self.done


def test_a_copy_that_arrives_never_queries_the_device() -> None:
    """A query from the sender thread breaks a graph capture, and initializes GPU 0 in a process that uses another."""
    device = AskedDevice()
    for _ in range(100):
        assert not device.arrived.is_set()
        device.now += INTERVAL / 101
    device.flag[0] = 1
    device.now += 100 * INTERVAL
    assert device.arrived.is_set()
    assert not device.asked


def test_a_device_that_failed_is_queried_and_its_error_raised() -> None:
    device = AskedDevice()
    device.now = INTERVAL
    assert not device.arrived.is_set()
    assert not device.arrived.is_set()
    assert device.asked == 1, "once in an interval"
    device.broken = True
    device.now += INTERVAL
    with pytest.raises(RuntimeError, match="device-side assert"):
        device.arrived.is_set()


def test_a_device_that_has_done_all_its_work_is_believed() -> None:
    device = AskedDevice()
    device.done = True
    assert not device.arrived.is_set()
    device.now = INTERVAL
    assert device.arrived.is_set()


def test_nothing_is_copied_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="while a CUDA graph is captured"):
        CudaCopy(torch.zeros(1))


class LazyStream:
    """A fake stream: :meth:`work` executes its queued copies in order."""

    device = torch.device("cpu")

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._queued: list[Callable[[], object]] = []
        copy = torch.Tensor.copy_

        def enqueue(into: torch.Tensor, source: torch.Tensor, *, non_blocking: bool) -> None:
            assert non_blocking
            self._queued.append(lambda: copy(into, source))

        monkeypatch.setattr(torch.Tensor, "copy_", enqueue)

        def unpinned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            return lambda *size, **options: make(*size, **options | {"pin_memory": False})

        for name in ("zeros", "empty"):
            monkeypatch.setattr(torch, name, unpinned(getattr(torch, name)))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: self)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)

    def work(self) -> None:
        """Do the next copy."""
        self._queued.pop(0)()


def test_a_copy_is_done_when_its_flag_is_copied_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = LazyStream(monkeypatch)
    copy = CudaCopy(torch.arange(4.0))
    assert not copy.ready()
    stream.work()
    assert copy.array().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not copy.ready(), "the flag comes behind"
    stream.work()
    assert copy.ready()


def test_a_tensor_lives_until_it_is_copied_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory would be used again before; and a GPU's is too dear to be held until the next call."""
    stream = LazyStream(monkeypatch)
    tensor = torch.arange(4.0)
    alive = weakref.ref(tensor)
    copy = CudaCopy(tensor)
    del tensor
    stream.work()
    stream.work()
    assert alive() is not None
    copy.array()
    assert alive() is None


def test_each_stream_has_its_own_flag_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value made on another stream might be copied before its creation."""
    first, second = LazyStream(monkeypatch), LazyStream(monkeypatch)
    done: Callable[[object], torch.Tensor] = device_copy._flag_value
    assert done(first) is done(first)
    assert done(first) is not done(second)


def test_a_later_copy_keeps_what_the_tensor_was() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    copy = SnapshotCopy(tensor)
    with torch.no_grad():
        tensor.zero_()
    assert copy.ready()
    np.testing.assert_array_equal(copy.array(), np.arange(6, dtype=np.float32).reshape(2, 3))


def test_devices_without_pinned_copies_are_fetched_later() -> None:
    copy = start_copy(torch.empty(3, device="meta"))
    assert isinstance(copy, SnapshotCopy)
    with pytest.raises(NotImplementedError):
        copy.array()


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int64])
def test_a_cuda_copy_waits_for_nothing_and_keeps_what_the_tensor_was(dtype: torch.dtype) -> None:
    tensor = torch.arange(100, device="cuda").to(dtype)
    expected = tensor.cpu().numpy()
    torch.cuda.set_sync_debug_mode("error")
    try:
        copy = start_copy(tensor)
        tensor.zero_()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert isinstance(copy, CudaCopy)
    torch.cuda.synchronize()
    assert copy.ready()
    np.testing.assert_array_equal(copy.array(), expected)


@needs_gpu
def test_a_cuda_copy_is_not_ready_before_the_work_in_front_of_it() -> None:
    tensor = torch.zeros(4, device="cuda")
    torch.cuda._sleep(500_000_000)  # type: ignore[no-untyped-call]
    tensor += 1
    copy = start_copy(tensor)
    assert not copy.ready()
    torch.cuda.synchronize()
    assert copy.ready()
    assert copy.array().tolist() == [1.0] * 4


@needs_gpu
def test_a_look_from_another_thread_asks_cuda_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_copy: CudaCopy) -> bool:
        raise AssertionError("a call to the device")

    monkeypatch.setattr(CudaCopy, "_query", asked)
    copy = start_copy(torch.arange(5.0, device="cuda"))
    torch.cuda.synchronize()
    found: list[list[float]] = []
    thread = Thread(target=lambda: found.append(copy.array().tolist() if copy.ready() else []))
    thread.start()
    thread.join()
    assert found == [[0.0, 1.0, 2.0, 3.0, 4.0]]


@needs_gpu
def test_a_capture_goes_on_while_another_thread_looks_for_a_copy() -> None:
    """The capture has torch's default mode: an unsafe call by any thread fails the capture."""
    static = torch.zeros(4, device="cuda")
    torch.cuda._sleep(500_000_000)  # type: ignore[no-untyped-call]
    copy = start_copy(torch.full((3,), 7.0, device="cuda"))
    looked, stop = Event(), Event()

    def look() -> None:
        while not stop.is_set():
            copy.ready()
            looked.set()

    thread = Thread(target=look)
    thread.start()
    graph = torch.cuda.CUDAGraph()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        graph.capture_begin()
        for _ in range(100):
            looked.clear()
            looked.wait(10)
            static += 1
        graph.capture_end()
    stop.set()
    thread.join()
    graph.replay()
    torch.cuda.synchronize()
    assert static.tolist() == [100.0] * 4
    assert copy.ready()
    assert copy.array().tolist() == [7.0] * 3


@needs_gpu
def test_values_inside_a_capture_are_refused_and_the_capture_goes_on() -> None:
    static = torch.zeros(4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static += 1
        with pytest.raises(RuntimeError, match="while a CUDA graph is captured"):
            start_copy(static)
    graph.replay()
    copy = start_copy(static)
    torch.cuda.synchronize()
    assert copy.ready()
    assert copy.array().tolist() == [1.0] * 4


@needs_gpu
def test_a_copy_on_each_stream_is_done_behind_that_streams_work() -> None:
    busy, free = (torch.cuda.Stream() for _ in range(2))  # type: ignore[no-untyped-call]
    tensor = torch.ones(2, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(busy):
        torch.cuda._sleep(1_000_000_000)  # type: ignore[no-untyped-call]
        late = start_copy(tensor)
    with torch.cuda.stream(free):
        early = start_copy(tensor)
    free.synchronize()
    assert early.ready()
    assert not late.ready()
    busy.synchronize()
    assert late.ready()
