r"""A user's name of a run to the folder that TensorBoard shows: the client maps names, the logger only checks them.

Rule 1: a name is a path below the log directory. ``.``, empty components and ``a/..`` name no folder of their own; the
beginning ``/``, ``~/`` or ``../`` would leave the log directory and is cut.
Rule 2: a character or a name that :func:`~tensorboard_sidecar.protocol.names.check_run` refuses is escaped: ``~`` and
two upper-case hexadecimal digits for each byte of its UTF-8 text. A literal ``~`` before two such digits is escaped as
well, so that different names stay different and :func:`unescape_run` returns the name.
Rule 3: a component or a path that is too long is cut, and ends with a checksum of the uncut text.
"""

import re
import zlib
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.errors import Malformed
from tensorboard_sidecar.protocol.limits import RUN_COMPONENT_MAX_BYTES, RUN_DEPTH_MAX, RUN_MAX_BYTES
from tensorboard_sidecar.protocol.names import RUN_FORBIDDEN, RUN_RESERVED, UNPRINTABLE, check_run

_ESCAPE_NEEDED: Final = re.compile(
    rf"~(?=[0-9A-F]{{2}})|[{re.escape(RUN_FORBIDDEN)}]|{UNPRINTABLE.pattern}|\A\.|\A\s|\s\Z|t(?=fevents)"
)
_ESCAPES: Final = re.compile(r"(?:~[0-9A-F]{2})+")
_CUT_MARK_BYTES: Final = len("-00000000")

_ESCAPED: Final = "characters and names that TensorBoard cannot show or that the logger uses itself are written as ~XX"
_LED_OUT: Final = "a run stays below the log directory"
_CUT: Final = "a name that is too long is cut and ends with a checksum"


class RunName(NamedTuple):
    """A run that ``check_run`` accepts, and what was changed in the user's name, as sentences for people."""

    run: str
    changes: tuple[str, ...] = ()


def shown_run(name: str) -> RunName:
    """Return the run for a user's name of any form. Raises Malformed for a name without a folder, like ``""`` or ``.``.

    >>> shown_run("./baseline+aug/")
    RunName(run='baseline~2Baug', changes=('characters and names that TensorBoard cannot show or that the logger uses \
itself are written as ~XX',))
    """
    components, led_out = _inside(name)
    if not components:
        raise Malformed(f"run {name!r:.80} is empty or names no folder; expected something like 'team/first-try'")
    escaped = [_escape(component) for component in components]
    if len(escaped) > RUN_DEPTH_MAX:
        escaped[RUN_DEPTH_MAX - 1 :] = ["~2F".join(escaped[RUN_DEPTH_MAX - 1 :])]
    folder, slash, last = _cut(
        "/".join(_cut(part, RUN_COMPONENT_MAX_BYTES) for part in escaped), RUN_MAX_BYTES
    ).rpartition("/")
    run = f"{folder}{slash}{_cut(last, RUN_COMPONENT_MAX_BYTES)}"  # the mark may have made the last component too long
    happened = {_LED_OUT: led_out, _ESCAPED: escaped != components, _CUT: run != "/".join(escaped)}
    return RunName(check_run(run), tuple(change for change, true in happened.items() if true))


def unescape_run(run: str) -> str:
    """Return the name whose run is ``run``; the inverse of :func:`shown_run` for names that were only escaped.

    >>> unescape_run("baseline~2Baug")
    'baseline+aug'
    """
    return _ESCAPES.sub(_unescape, run)


def _inside(name: str) -> tuple[list[str], bool]:
    """Return the components of a path below the log directory, and whether the path led out of the log directory."""
    components: list[str] = []
    led_out = name.startswith("/")
    for component in name.split("/"):
        if component == "..":
            led_out |= not components
            del components[-1:]
        elif component not in ("", "."):
            components.append(component)
    if components[:1] == ["~"]:
        return components[1:], True
    return components, led_out


def _escape(component: str) -> str:
    escaped = _ESCAPE_NEEDED.sub(lambda match: _escape_character(match[0]), component)
    return _escape_character(escaped[0]) + escaped[1:] if RUN_RESERVED.fullmatch(escaped) else escaped


def _escape_character(character: str) -> str:
    return "".join(f"~{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _unescape(match: re.Match[str]) -> str:
    try:
        return bytes.fromhex(match[0].replace("~", "")).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # no name has this run
        return match[0]


def _cut(text: str, size_max_bytes: int) -> str:
    """Return a text of at most ``size_max_bytes``; a longer text ends with its checksum."""
    data = text.encode()
    if len(data) <= size_max_bytes:
        return text
    return f"{data[: size_max_bytes - _CUT_MARK_BYTES].decode(errors='ignore')}-{zlib.crc32(data):08x}"
