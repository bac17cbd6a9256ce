"""How much is tried: a few rounds with every test run, many in a soak.

``SOAK_MINUTES=30 pytest tests/faults`` (make soak) runs every row with its full number, and the random mix for so long.
``FAULTS_SEED`` repeats what a failed test printed.
"""

import os
import random
from typing import Final

SOAK_MINUTES: Final = float(os.environ.get("SOAK_MINUTES", "0"))
SOAKING: Final = SOAK_MINUTES > 0
# What a test may take when its numbers are full; the quick ones keep the limit of all tests.
SOAK_TIMEOUT_SECONDS: Final = 3600 + 60 * SOAK_MINUTES


def rounds(quick: int, full: int) -> int:
    """Return how often to try."""
    return full if SOAKING else quick


def new_seed() -> int:
    """Return the seed to repeat, or a fresh one."""
    given = os.environ.get("FAULTS_SEED")
    return int(given) if given else random.SystemRandom().randrange(2**32)
