"""The settings of ``serve``, and the checks that need no folder or socket."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.errors import StartupError
from tensorboard_sidecar.protocol.address import DEFAULT_ENDPOINT, is_loopback

_TCP: Final = re.compile(r"tcp://(?P<host>[^/:]+):(?P<port>[0-9]{1,5}|\*)")
_TRAINERS_ENDPOINT: Final = re.compile(r"tcp://.+:[0-9]{1,5}|ipc://.+")
# sockaddr_un.sun_path has 108 bytes on Linux, the last of them zero.
_IPC_PATH_MAX_BYTES: Final = 107

_HEALTH: Final = re.compile(r"(?P<host>[^/:]+):(?P<port>[0-9]{1,5}|\*)")

OFF: Final = "none"
HEALTH_ADDRESS: Final = "127.0.0.1:9155"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """Settings of ``serve``; raises StartupError for settings that cannot work.

    >>> ServeConfig(bind="tcp://127.0.0.1:6000", logdir=Path("runs")).recordings
    PosixPath('recordings')
    """

    bind: str = DEFAULT_ENDPOINT
    """Where trainers connect: ``tcp://`` (port ``*``: any free port; without keys: on a loopback address), ``ipc://``."""
    keys: Path | None = None
    """The folder of the logger's keys and of the allowed keys; None: everybody on this machine may send."""
    recordings: Path = Path("recordings")
    """The folder of the journal: the records of the trainers, byte for byte."""
    logdir: Path = Path("runs_brain_v2")
    """The folder of the event files, which are made from the recordings."""
    health: str | None = None
    """HOST:PORT of ``/healthz`` and ``/metrics``; ``none``: no page; None: HEALTH_ADDRESS, if free."""
    adopt: str | None = None
    """The folder with the outboxes of ended trainers; ``none``: no folder; None: the folders of this user."""
    adopt_for: tuple[str, ...] = ()
    """Other addresses by which trainers call this logger: outboxes left for these are adopted as well."""
    disk_reserve_bytes: int | None = None
    """Bytes that stay free on the disks of both folders; 0: no reserve; None: 256 MiB, or 5 % of a small disk."""
    on_finding: str | None = None
    """A command that reads a finding as JSON from standard input, when it opens and clears; None, ``none``: none."""
    on_finding_url: str | None = None
    """An http or https address to which the same JSON is sent; None, ``none``: no address."""
    drain_seconds: float = 60.0
    """How long a stop waits for the event files to be up to date; the next start continues from their end."""

    def __post_init__(self) -> None:
        check_endpoint(self.bind, keys=self.keys is not None)
        _check_apart(self.recordings, self.logdir)
        if self.health not in (None, OFF):
            parse_health_address(str(self.health))
        if self.adopt == "":
            raise StartupError(f"--adopt: expected a folder of outboxes, or {OFF}")
        for endpoint in self.adopt_for:
            if not _TRAINERS_ENDPOINT.fullmatch(endpoint):
                raise StartupError(f"--adopt_for {endpoint}: expected a trainer's endpoint, like tcp://logger:5555")
        if self.disk_reserve_bytes is not None and self.disk_reserve_bytes < 0:
            raise StartupError(f"--disk_reserve_bytes {self.disk_reserve_bytes}: expected 0 (no mark) or more")
        if not 0 <= self.drain_seconds < float("inf"):
            raise StartupError(f"--drain_seconds {self.drain_seconds}: expected a number of seconds, 0 or more")


def check_endpoint(endpoint: str, *, keys: bool = False) -> None:
    """Raise StartupError for an address where a logger cannot, or without ``keys`` should not, listen."""
    if endpoint.startswith("ipc://"):
        path = endpoint.removeprefix("ipc://")
        if not path or path[0] in "@*" or len(path.encode()) > _IPC_PATH_MAX_BYTES:
            raise StartupError(f"--bind {endpoint}: expected ipc://PATH, a path of at most {_IPC_PATH_MAX_BYTES} bytes")
        return
    parts = _TCP.fullmatch(endpoint)
    if parts is None or (parts["port"] != "*" and int(parts["port"]) > 65535):
        raise StartupError(f"--bind {endpoint}: expected something like tcp://127.0.0.1:5555 or ipc://DIR/logger.sock")
    if not (keys or is_loopback(parts["host"])):
        raise StartupError(
            f"--bind {endpoint}: other machines can reach this address, so trainers need keys there; make the logger's"
            " keys with tensorboard-sidecar keys create KEYS, which prints the next steps, and add --keys KEYS"
            f" (trainers on this machine need none: --bind tcp://127.0.0.1:{parts['port']})"
        )


def parse_health_address(address: str) -> tuple[str, int]:
    """Return host and port (``*`` is 0: any free port) of ``HOST:PORT``; raise StartupError for any other text.

    >>> parse_health_address("127.0.0.1:*")
    ('127.0.0.1', 0)
    """
    parts = _HEALTH.fullmatch(address)
    port = int(parts["port"].replace("*", "0")) if parts is not None else -1
    if parts is None or port > 65535:
        raise StartupError(f"--health {address}: expected something like {HEALTH_ADDRESS}, or {OFF}")
    if not (is_loopback(parts["host"]) or parts["host"] == "0.0.0.0"):  # noqa: S104 - only when asked for
        raise StartupError(
            f"--health {address}: the page is for this machine; choose 127.0.0.1:{parts['port']}, or 0.0.0.0:"
            f"{parts['port']} in a container whose ports nobody else reaches (the page shows numbers, and the names of"
            " runs and folders)"
        )
    return parts["host"], port


def _check_apart(recordings: Path, logdir: Path) -> None:
    """Raise StartupError if one folder lies in the other: TensorBoard walks its folder, the logger its recordings."""
    one, other = (Path(os.path.realpath(folder)) for folder in (recordings, logdir))  # resolve() fails in circles
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise StartupError(
            f"--recordings {recordings} and --logdir {logdir}: one lies in the other; choose two folders side by side"
        )
