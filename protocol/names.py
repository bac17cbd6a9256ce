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
    return _check_path("run", run)


def check_folder(folder: str) -> str:
    """Return ``folder``, a path in the folder of a run, with the rules of :func:`check_run`; raises as that function.

    >>> check_folder("loss_train")
    'loss_train'
    """
    return _check_path("folder", folder)


def check_file_suffix(suffix: str) -> str:
    """Return ``suffix``, the end of a file name, which may be empty.

    Raises TooLarge for a long suffix, Malformed for a suffix with slashes, backslashes or characters that do not print.

    >>> check_file_suffix(".trial-7")
    '.trial-7'
    """
    size = len(suffix.encode("utf-8", "surrogatepass"))
    if size > limits.FILE_SUFFIX_MAX_BYTES:
        raise TooLarge("file suffix in bytes", size, limits.FILE_SUFFIX_MAX_BYTES)
    if UNPRINTABLE.search(suffix) or "/" in suffix or "\\" in suffix:
        raise Malformed(f"file suffix {suffix!r} holds control characters or a separator of folders")
    return suffix


def check_tag(tag: str) -> str:
    """Return ``tag``; raise Malformed for a tag that is empty or does not print, TooLarge for a long tag.

    The last tags that passed are remembered: the records of a run repeat a few tags.
    """
    if not isinstance(tag, str):
        raise Malformed(f"tag {tag!r:.80}; expected text")
    return _check_text(tag)


def check_step(step: int) -> int:
    """Return ``step``; raise Malformed for a step that TensorBoard cannot show: expected -2**53 to 2**53.

    A negative step is a place before the first step of the training: programs use -1 for "before training".
    """
    if not -STEP_MAX <= step <= STEP_MAX:
        raise Malformed(f"step {step}; expected {-STEP_MAX:,} to {STEP_MAX:,}")
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


def _check_path(subject: str, path: str) -> str:
    size = len(path.encode("utf-8", "surrogatepass"))
    if size > limits.RUN_MAX_BYTES:
        raise TooLarge(f"{subject} name in bytes", size, limits.RUN_MAX_BYTES)
    components = path.split("/")
    if len(components) > limits.RUN_DEPTH_MAX:
        raise TooLarge(f"{subject} name's depth", len(components), limits.RUN_DEPTH_MAX)
    for component in components:
        _check_component(f"{subject} {path!r}", component)
    return path


def _check_component(subject: str, component: str) -> None:
    if not component or component.startswith("."):
        raise Malformed(
            f"{subject}: a component is empty or begins with a dot; expected something like 'team/first-try'"
        )
    if RUN_RESERVED.fullmatch(component):
        raise Malformed(
            f"{subject}: names like {component!r} are those of files and folders that the logger itself makes in a"
            " run's folder; choose another name"
        )
    if component != component.strip():
        raise Malformed(f"{subject}: a component begins or ends with a space")
    size = len(component.encode("utf-8", "surrogatepass"))
    if size > limits.RUN_COMPONENT_MAX_BYTES:
        raise TooLarge(
            f"{subject.split(maxsplit=1)[0]} name's component in bytes", size, limits.RUN_COMPONENT_MAX_BYTES
        )
    if UNPRINTABLE.search(component) or any(character in component for character in RUN_FORBIDDEN):
        raise Malformed(f"{subject} holds control characters or one of {' '.join(RUN_FORBIDDEN)}")
