"""Telemetry of the tests keeps its outboxes apart, and its threads in bounds."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_outboxes(outboxes: Path) -> None:
    """Make outboxes in a folder of the test's own."""
