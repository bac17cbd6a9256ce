"""Copies from a device; what runs without one uses torch's meta device, which has shapes and no values."""

import numpy as np
import pytest
import torch

from trainer.telemetry.device_copy import CudaCopy, LaterCopy, start_copy


def test_a_later_copy_keeps_what_the_tensor_was() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
    copy = LaterCopy(tensor)
    with torch.no_grad():
        tensor.zero_()
    assert copy.ready()
    np.testing.assert_array_equal(copy.array(), np.arange(6, dtype=np.float32).reshape(2, 3))


def test_devices_without_pinned_copies_are_fetched_later() -> None:
    copy = start_copy(torch.empty(3, device="meta"))
    assert isinstance(copy, LaterCopy)
    with pytest.raises(NotImplementedError):
        copy.array()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
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


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_cuda_copy_is_not_ready_before_the_work_in_front_of_it() -> None:
    tensor = torch.zeros(4, device="cuda")
    torch.cuda._sleep(500_000_000)  # type: ignore[no-untyped-call]
    tensor += 1
    copy = start_copy(tensor)
    assert not copy.ready()
    torch.cuda.synchronize()
    assert copy.ready()
    assert copy.array().tolist() == [1.0] * 4
