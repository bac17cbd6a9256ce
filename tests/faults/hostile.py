"""What strangers send, and what they cost a logger."""

from pathlib import Path
from typing import Final

from support.peer import Peer
from support.programs import LoggerProcess
from support.zmtp import GREETING, READY

from protocol.stream import Stream

# All that a connection has to say before its first message.
HANDSHAKE: Final = GREETING + bytes([4, len(READY)]) + READY


def served(logger: LoggerProcess, run: str = "honest", *, records: int = 40) -> None:
    """See that an honest peer gets its records acknowledged."""
    with Peer(logger.endpoint, Stream(run)) as peer:
        peer.deliver(records + 1)
        peer.bye()


def memory_kib(logger: LoggerProcess) -> int:
    """Return how much memory a logger has had at most."""
    assert logger.process is not None
    status = Path(f"/proc/{logger.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1])
