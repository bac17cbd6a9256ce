"""Where a logger can be reached."""

import re
from typing import Final

_TCP: Final = re.compile(r"tcp://(?:\[[0-9a-fA-F:.]+(?:%[\w.-]+)?\]|[\w.-]+):([0-9]{1,5})")
_IPC: Final = re.compile(r"ipc://[^\0]+")


def check_endpoint(endpoint: str) -> str:
    """Return a ZeroMQ address that a trainer can connect to. Raises ValueError.

    ZeroMQ itself takes ports above 65,535, no host at all, and transports that lead nowhere.
    """
    if not isinstance(endpoint, str):
        raise ValueError(f"endpoint {endpoint!r}; expected text like tcp://127.0.0.1:5555")  # noqa: TRY004 - a setting
    tcp = _TCP.fullmatch(endpoint)
    if not (tcp and 1 <= int(tcp[1]) <= 65535) and not _IPC.fullmatch(endpoint):
        raise ValueError(
            f"endpoint {endpoint!r}; expected the logger's address, like tcp://127.0.0.1:5555 or ipc:///path/to/socket"
        )
    return endpoint
