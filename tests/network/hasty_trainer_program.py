"""The training loop of trainer_program, with a link that waits one second for a handshake instead of four."""

import sys

from network import trainer_program

from tensorboard_sidecar.telemetry.shipping import link

HANDSHAKE_MAX_MS = 1000

if __name__ == "__main__":
    link.HANDSHAKE_MAX_MS = HANDSHAKE_MAX_MS  # type: ignore[misc] - the test waits for this time
    sys.exit(trainer_program.main(*sys.argv[1:]))
