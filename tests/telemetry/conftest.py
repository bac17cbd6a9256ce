"""Each test of telemetry makes its outboxes in a separate folder; torch runs on a single thread."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_outboxes(outboxes: Path) -> None:
    """Make outboxes in a separate folder for the test."""
