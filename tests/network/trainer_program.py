"""A training loop for so many steps, on the box without the logger.

    python -m network.trainer_program ENDPOINT OUTBOX_FOLDER STEPS DRAIN_SECONDS [SERVER_KEY CLIENT_KEY]

Prints how many steps were trained; what telemetry has to say is on stderr.
"""

import logging
import sys
from time import sleep
from typing import Final

import torch

from tensorboard_sidecar import Telemetry

RUN: Final = "secret-project/first"
TAG: Final = "loss/train/confidential"
TEXT: Final = "nobody on the network may read this"
STEP_SECONDS: Final = 0.002


def main(endpoint: str, outbox: str, steps: str, drain_seconds: str, server_key: str = "", client_key: str = "") -> int:
    """Train; return the exit code: 2 for settings that cannot be."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    weight, trained = torch.ones(32, 32), 0
    try:
        telemetry = Telemetry(
            RUN,
            endpoint=endpoint,
            outbox_dir=outbox,
            server_key=server_key,
            client_key=client_key,
            strict=True,
            drain_seconds=float(drain_seconds),
        )
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - a command line
        return 2
    with telemetry:
        telemetry.text(0, "note", TEXT)
        for step in range(int(steps)):
            weight = (weight @ weight).tanh()
            telemetry.scalars(step, {TAG: float(weight.mean())})
            trained += 1
            sleep(STEP_SECONDS)
    print(f"trained {trained} steps")  # noqa: T201 - a command line
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
