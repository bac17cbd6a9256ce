"""Drafts: messages that wait for their tensors, as ``Telemetry.keep`` takes them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy.typing as npt
from torch import Tensor

from tensorboard_sidecar.protocol.kinds import kind_of
from tensorboard_sidecar.protocol.messages import Message
from tensorboard_sidecar.protocol.record import Kind

Arrays: TypeAlias = Sequence[npt.NDArray[Any]]
"""The tensors of a draft, copied to host memory."""


class Draft(NamedTuple):
    """A message to be: ``build(arrays)`` returns the message, given the tensors as arrays in host memory.

    Tensors may lie on devices; the sender thread calls ``build`` then. ``build`` holds no tensor, and the encoded size
    of its message depends on the shapes of the arrays alone.
    """

    kind: Kind
    tensors: Sequence[Tensor]
    build: Callable[[Arrays], Message]


def finished(message: Message) -> Draft:
    """Return the draft of a message that has all its values.

    >>> from tensorboard_sidecar.protocol.messages import Text
    >>> finished(Text("notes", "a text")).build([])
    Text(tag='notes', text='a text')
    """
    return Draft(kind_of(message), (), lambda _: message)
