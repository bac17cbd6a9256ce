"""``GlobalSummaryWriter``: tensorboardX's writer for a whole program, which counts the steps by itself."""

import logging
import mmap
import os
import struct
import threading
from collections.abc import Callable
from hashlib import blake2s
from multiprocessing import get_context
from typing import Any, ClassVar, Final, Protocol

from tensorboard_sidecar.telemetry.summary_writer import SummaryWriter
from tensorboard_sidecar.telemetry.values.arrays import Pictures
from tensorboard_sidecar.telemetry.values.scalars import Scalar

SLOTS: Final = 2**16
"""The tags that have a counter in all processes, 24 bytes of memory each; further tags are counted by each process."""

_LOCK_SECONDS: Final = 1.0
_SLOT: Final = struct.Struct("<16sQ")
_FREE: Final = bytes(16)
_log: Final = logging.getLogger(__name__)


class _Lock(Protocol):
    """A lock of threads, or of processes and threads, that its owner can take again."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool: ...

    def release(self) -> None: ...


class StepCounters:
    """Counts the calls for each tag, in memory that forked children share. The caller holds a lock.

    A hash table with open addressing: a slot is the digest of a tag and the next step of that tag.
    """

    def __init__(self, slots: int = SLOTS) -> None:
        self._memory = mmap.mmap(-1, slots * _SLOT.size)
        self._slots = slots
        self._own: dict[bytes, int] = {}

    def next(self, kind: str, tag: str) -> int:
        """Return 0 for the first call with a kind and a tag in any process, then 1, 2 ...

        >>> counters = StepCounters()
        >>> [counters.next("scalar", "loss"), counters.next("scalar", "loss"), counters.next("text", "loss")]
        [0, 1, 0]
        """
        digest = blake2s(f"{kind}/{tag}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        first = int.from_bytes(digest[:8], "little")
        for probe in range(self._slots):
            offset = (first + probe) % self._slots * _SLOT.size
            found, step = _SLOT.unpack_from(self._memory, offset)
            if found in (digest, _FREE):
                _SLOT.pack_into(self._memory, offset, digest, step + 1)
                return int(step)
        step = self._own.get(digest, 0)
        self._own[digest] = step + 1
        return step


class GlobalSummaryWriter:
    """A writer without steps: each call counts the step of its tag, from 0, across threads and forked children.

    The parameters of the constructor are those of :class:`SummaryWriter`; ``smw`` is the ``SummaryWriter`` that keeps
    the values. Modules of a program share a writer with :meth:`getSummaryWriter`. TensorBoard shows the values of a
    forked child in a run of the child's own, ``rank-<process id>`` below this one. A call waits while another thread or
    process makes a call. A process that is killed within its call would block the others; after a second the others no
    longer wait for other processes.

    >>> from tensorboard_sidecar import GlobalSummaryWriter
    >>> writer = GlobalSummaryWriter("runs/shared")
    >>> for loss in (0.5, 0.25):
    ...     writer.add_scalar("loss/train", loss)
    >>> writer.close()
    """

    _shared: ClassVar["GlobalSummaryWriter | None"] = None

    def __init__(
        self,
        logdir: str | os.PathLike[str] | None = None,
        comment: str = "",
        *settings: Any,
        coalesce_process: bool = True,
        **more: Any,
    ) -> None:
        del coalesce_process  # tensorboardX ignores this too
        self.smw = SummaryWriter(logdir, comment, *settings, **more)
        self._lock = _lock()
        self._counters = StepCounters()

    @classmethod
    def getSummaryWriter(cls) -> "GlobalSummaryWriter":  # noqa: N802 - tensorboardX's name
        """Return the writer of this program; the first call makes the writer, in the default folder.

        >>> writer = GlobalSummaryWriter.getSummaryWriter()
        >>> writer is GlobalSummaryWriter.getSummaryWriter()
        True
        >>> writer.close()
        """
        if GlobalSummaryWriter._shared is None:
            GlobalSummaryWriter._shared = GlobalSummaryWriter()
            _log.info("the global writer writes into %s", GlobalSummaryWriter._shared.smw.get_logdir())
        return GlobalSummaryWriter._shared

    @property
    def file_writer(self) -> Any:
        """The ``file_writer`` of ``smw``, for programs that make TensorBoard's messages by themselves."""
        writer: Any = self.smw
        return writer.file_writer

    def add_scalar(self, tag: str, scalar_value: Scalar, walltime: float | None = None) -> None:
        """Keep one number at the next step of the tag; see :meth:`SummaryWriter.add_scalar`.

        >>> from contextlib import closing
        >>> with closing(GlobalSummaryWriter("runs/shared")) as writer:
        ...     writer.add_scalar("loss/train", 0.5)
        """
        self._add("scalar", tag, lambda step: self.smw.add_scalar(tag, scalar_value, step, walltime))

    def add_image(
        self, tag: str, img_tensor: Pictures, walltime: float | None = None, dataformats: str = "CHW"
    ) -> None:
        """Keep one picture at the next step of the tag; see :meth:`SummaryWriter.add_image`.

        >>> import torch
        >>> from contextlib import closing
        >>> with closing(GlobalSummaryWriter("runs/shared")) as writer:
        ...     writer.add_image("samples/first", torch.rand(3, 32, 32))
        """
        self._add("image", tag, lambda step: self.smw.add_image(tag, img_tensor, step, walltime, dataformats))

    def add_text(self, tag: str, text_string: str, walltime: float | None = None) -> None:
        """Keep a text at the next step of the tag; see :meth:`SummaryWriter.add_text`.

        >>> from contextlib import closing
        >>> with closing(GlobalSummaryWriter("runs/shared")) as writer:
        ...     writer.add_text("notes", "The **second** half of the data begins here.")
        """
        self._add("text", tag, lambda step: self.smw.add_text(tag, text_string, step, walltime))

    def close(self) -> None:
        """Close ``smw``; a later call goes on with the next step."""
        self.smw.flush()
        self.smw.close()

    def _add(self, kind: str, tag: object, add: Callable[[int], None]) -> None:
        """Make a call with the next step. The lock keeps the calls in the order of their steps."""
        lock = self._lock
        held = lock.acquire(timeout=_LOCK_SECONDS)
        if not held:
            self._lock = threading.RLock()
            _log.warning("a process holds the lock of the global writer; from now on two steps may be equal")
        try:
            add(self._counters.next(kind, tag if isinstance(tag, str) else f"{tag!r:.512}"))
        finally:
            if held:
                lock.release()


def _lock() -> _Lock:
    """Return a lock of processes; where the machine allows none, a lock of threads."""
    try:
        return get_context("fork").RLock()
    except OSError:
        return threading.RLock()
