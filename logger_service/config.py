"""What ``serve`` can be told, and what of it is refused before anything is opened."""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TCP: Final = re.compile(r"tcp://(?P<host>[^/:]+):(?P<port>[0-9]{1,5}|\*)")
# sockaddr_un.sun_path has 108 bytes on Linux, the last of them zero.
_IPC_PATH_MAX_BYTES: Final = 107


class StartupError(RuntimeError):
    """A setting that cannot work, with what to do about it; raised at start-up only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Settings of ``serve``; raises StartupError for an endpoint or folders that cannot be."""

    bind: str = "tcp://127.0.0.1:5555"
    """Where trainers connect: ``tcp://`` on a loopback address (port ``*``: any free one), or ``ipc://``."""
    recordings: Path = Path("recordings")
    """The journal: what trainers sent, as it came."""
    logdir: Path = Path("runs_brain_v2")
    """Event files for TensorBoard, made from the recordings."""
    drain_seconds: float = 60.0
    """How long a stop waits for the event files to be brought up to date; the next start goes on from there."""
    commit_interval_seconds: float = 0.05
    """A record waits at most so long for its fdatasync (and others for the same one)."""
    commit_size_bytes: int = 8 * 2**20
    """So many bytes wait for no clock."""
    streams_max: int = 1024
    """Streams remembered at a time; the one that was silent longest is asked for a HELLO when it speaks again."""

    def __post_init__(self) -> None:
        check_endpoint(self.bind)
        _check_apart(self.recordings, self.logdir)
        if not 0 <= self.drain_seconds < float("inf"):
            raise StartupError(f"--drain_seconds {self.drain_seconds}: expected a number of seconds, 0 or more")


def check_endpoint(endpoint: str) -> None:
    """Raise StartupError when a logger should not listen there."""
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        if not path or path[0] in "@*" or len(path.encode()) > _IPC_PATH_MAX_BYTES:
            raise StartupError(f"--bind {endpoint}: expected ipc://PATH, a path of at most {_IPC_PATH_MAX_BYTES} bytes")
        return
    parts = _TCP.fullmatch(endpoint)
    if parts is None or (parts["port"] != "*" and int(parts["port"]) > 65535):
        raise StartupError(f"--bind {endpoint}: expected something like tcp://127.0.0.1:5555 or ipc:///tmp/logger.sock")
    if not _is_loopback(parts["host"]):
        raise StartupError(
            f"--bind {endpoint}: trainers are not authenticated, so this logger listens on this machine only; bind"
            f" tcp://127.0.0.1:{parts['port']} and reach it from another one through a tunnel"
            " (ssh -R 5555:127.0.0.1:5555 TRAINING-HOST)"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False


def _check_apart(recordings: Path, logdir: Path) -> None:
    """TensorBoard walks its log directory, the logger its recordings: neither should meet the other's files."""
    one, other = recordings.resolve(), logdir.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise StartupError(
            f"--recordings {recordings} and --logdir {logdir}: one lies in the other; choose two folders side by side"
        )
