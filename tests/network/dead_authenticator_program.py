"""A logger whose authenticator is dead: ZeroMQ asks who may connect, and nobody answers. Arguments as the logger's."""

import sys
from time import sleep

from tensorboard_sidecar.__main__ import main
from tensorboard_sidecar.logger_service.access.authenticator import Authenticator


def answer_nothing(_authenticator: Authenticator, _now: float) -> None:
    """Leave the question where it is, without a busy loop."""
    sleep(0.01)


if __name__ == "__main__":
    Authenticator.answer = answer_nothing  # type: ignore[method-assign]
    sys.exit(main())
