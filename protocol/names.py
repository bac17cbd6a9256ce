"""Checks of untrusted names and numbers: a run becomes a folder, a tag becomes a title, a step a place on an axis.

The checks are strict, because the names come from the network. A client first turns a user's name into a name that
passes: ``protocol.run_names`` for runs, ``telemetry.values.tags`` for tags.
"""

import re
from functools import lru_cache
from typing import Final

from tensorboard_sidecar.protocol import limits
from tensorboard_sidecar.protocol.errors import Malformed, TooLarge
from tensorboard_sidecar.protocol.limits import STEP_MAX

# Backslash is a path separator on other systems, and on shares of these systems. TensorBoard's embedding projector puts
# the run into its addresses as it is, where the other characters have a meaning (tried with TensorBoard 2.21).
RUN_FORBIDDEN: Final = "\\&#+%"
# Names of files and folders that the logger makes in a run's folder, in the log directory or among the recordings. A
# run with such a name would share or replace them. To TensorBoard every file with "tfevents" in its name is an event
# file.
RUN_RESERVED: Final = re.compile(
    r"rank-\d+|attempt-\d+|hparams-[0-9a-f]{12}|projector|projector_config\.pbtxt|.*tfevents.*|stream-\d{4,}-\d{4,}-[0-9a-f]{32}",
    re.DOTALL,
)
# The folder of recordings in the folder of their event files; no run's name begins with a dot.
RECORDING_NAME: Final = ".tensorboard-sidecar"
# Control characters (Unicode category Cc), lone surrogates (Cs), and marks of text direction.
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def check_run(run: str) -> str:
    r"""Return ``run``, a relative path that stays under the log directory; raise Malformed or TooLarge otherwise.

    Components are separated by ``/``. No component is empty, begins with a dot, begins or ends with white space, or
    holds control characters, marks of text direction, or any of ``\ & # + %``. Reserved for the logger are the
    components ``rank-<number>``, ``attempt-<number>``, ``hparams-<12 hex digits>``, ``projector``,
    ``projector_config.pbtxt``, the folder name of a recording, and every name with ``tfevents`` in it.

    >>> check_run("team/first-try")
    'team/first-try'
    """
    size = len(run.encode("utf-8", "surrogatepass"))
    if size > limits.RUN_MAX_BYTES:
        raise TooLarge("run name in bytes", size, limits.RUN_MAX_BYTES)
    components = run.split("/")
    if len(components) > limits.RUN_DEPTH_MAX:
        raise TooLarge("run name's depth", len(components), limits.RUN_DEPTH_MAX)
    for component in components:
        _check_component(run, component)
    return run


def check_tag(tag: str) -> str:
    """Return ``tag``; raise Malformed for a tag that is empty or does not print, TooLarge for a long tag.

    The last tags that passed are remembered: the records of a run repeat a few tags.
    """
    if not isinstance(tag, str):
        raise Malformed(f"tag {tag!r:.80}; expected text")
    return _check_text(tag)


def check_step(step: int) -> int:
    """Return ``step``; raise Malformed for a step that TensorBoard cannot show: expected 0 to 2**53."""
    if not 0 <= step <= STEP_MAX:
        raise Malformed(f"step {step}; expected 0 to {STEP_MAX:,}")
    return step


# Bounded by TAG_MAX_CHARACTERS: only tags that pass are remembered, at most 8 MiB of them.
@lru_cache(maxsize=4096)
def _check_text(tag: str) -> str:
    if not tag or tag.isspace():
        raise Malformed("a tag is empty")
    if len(tag) > limits.TAG_MAX_CHARACTERS:
        raise TooLarge(f"tag {tag[:40]!r}... in characters", len(tag), limits.TAG_MAX_CHARACTERS)
    if UNPRINTABLE.search(tag):
        raise Malformed(f"tag {tag!r} holds control characters, direction marks or lone surrogates")
    return tag


def _check_component(run: str, component: str) -> None:
    if not component or component.startswith("."):
        raise Malformed(
            f"run {run!r}: a component is empty or begins with a dot; expected something like 'team/first-try'"
        )
    if RUN_RESERVED.fullmatch(component):
        raise Malformed(
            f"run {run!r}: names like {component!r} are those of files and folders that the logger itself makes in a"
            " run's folder; choose another name"
        )
    if component != component.strip():
        raise Malformed(f"run {run!r}: a component begins or ends with a space")
    size = len(component.encode("utf-8", "surrogatepass"))
    if size > limits.RUN_COMPONENT_MAX_BYTES:
        raise TooLarge("run name's component in bytes", size, limits.RUN_COMPONENT_MAX_BYTES)
    if UNPRINTABLE.search(component) or any(character in component for character in RUN_FORBIDDEN):
        raise Malformed(f"run {run!r} holds control characters or one of {' '.join(RUN_FORBIDDEN)}")
