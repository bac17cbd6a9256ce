"""Messages that no logger may take: most look right at first sight, and are wrong deeper inside.

Each is wrong by the way it is made, so that nothing of this project is asked whether it is.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from msgpack import packb
from support.logger.peer import make_record

from tensorboard_sidecar.protocol.frame import pack_frame, pack_head
from tensorboard_sidecar.protocol.record import HEADER, HEADER_SIZE_BYTES, RECORD_VERSION, Kind

STREAM: Final = bytes(range(16))
HELLO: Final[dict[str, Any]] = {"stream": STREAM, "run": "bad", "rank": 0, "attempt": 0, "next_sequence": 1}
BOMB: Final = b"\x91" * 60_000 + b"\xc0"
# What says that more comes than there is: array, map, text, bytes of 4 GiB, and a type of its own.
PROMISES: Final = (b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff")
WRONG_RUNS: Final = ("", "..", "../x", "/etc/x", "a//b", "a/", "a/../../x", "a\x00b", "\u202ea", "x" * 10_000, "x/" * 9)
WRONG_VALUES: Final[dict[str, tuple[Any, ...]]] = {
    "stream": (None, 1, "text", b"", bytes(15), bytes(17), [1], {}),
    "run": (None, 1, b"bytes", ["a"], {}, *WRONG_RUNS),
    "rank": (None, "0", 1.5, -1, 2**31, 2**64 - 1, -(2**63), [0]),
    "attempt": (None, b"0", 0.5, -1, 2**31, 2**64 - 1, {}),
    "next_sequence": (None, "1", 0, -1, 2**63, 2**64 - 1, [1]),
}
FRAMES: Final = make_record(1) + make_record(2)
FIRST_FRAME_END: Final = len(make_record(1))


def wrong_frame(chance: Random) -> tuple[str, bytes]:
    """Return one of any family; the frames of "data" are for a peer that has just said HELLO."""
    [(family, make)] = chance.choices(list(_FAMILIES.items()), _WEIGHTS)
    return family, make(chance)


def _no_message(chance: Random) -> bytes:
    """Return what has not even the right version, or is too short to have one."""
    return chance.choice([b"", b"\x01", b"\xff", bytes(chance.choices(range(2, 256), k=1)) + chance.randbytes(40)])


def _no_trainers_message(chance: Random) -> bytes:
    """Return a message of a type that nobody has, or that a logger says."""
    return b"\x01" + bytes([chance.choice([0, 2, 3, 5, 6, *range(8, 256)])]) + chance.randbytes(chance.randrange(60))


def _hello(chance: Random) -> bytes:
    body: bytes = packb(HELLO)
    name = chance.choice(list(HELLO))
    match chance.randrange(6):
        case 0:
            body = body[: chance.randrange(len(body))]
        case 1:
            body += chance.randbytes(chance.randint(1, 6))
        case 2:
            body = packb({key: value for key, value in HELLO.items() if key != name})
        case 3:
            before = packb({key: value for key, value in HELLO.items() if key != name})
            body = b"\x85" + before[1:] + packb(name) + chance.choice(PROMISES) + chance.randbytes(8)
        case 4 if chance.random() < 0.1:
            body = chance.choice([BOMB, b"\x81\xa1a" * 20_000, packb({**HELLO, "run": "x" * 70_000})])
        case _:
            body = packb({**HELLO, name: chance.choice(WRONG_VALUES[name])})
    return b"\x01\x01" + body


def _data(chance: Random) -> bytes:
    frames = bytearray(FRAMES)
    match chance.randrange(6):
        case 0:
            frames[chance.randrange(len(frames))] ^= 1 << chance.randrange(8)
        case 1:
            cuts = [size for size in range(1, len(frames)) if size != FIRST_FRAME_END]
            del frames[chance.choice(cuts) :]
        case 2:
            at = chance.choice([0, FIRST_FRAME_END, len(frames)])
            frames[at:at] = chance.choice([bytes(20), b"\xff" * 20, b"\x01" + chance.randbytes(30)])
        case 3:
            frames[:] = b"".join(map(make_record, chance.choice([(1, 3), (1, 1), (1, 2, 2), (1, 2, 4), (1, 2, 1)])))
        case 4:
            frames[:] = make_record(1) + pack_frame(_wrong_record(chance))
        case _:
            length = chance.choice([2**26 + 2**17, 2**31, 2**40, 2**63, 2**64 - 1])
            frames += pack_head(length) + bytes(40)
    return b"\x01\x04" + bytes(frames)


def _wrong_record(chance: Random) -> bytes:
    """Return a record whose header is wrong, or whose body is a bomb behind one."""
    fields = {"version": RECORD_VERSION, "kind": Kind.SCALARS, "span": 1, "size": len(BOMB), "sequence": 2}
    name, value = chance.choice(
        [
            *(("version", version) for version in (0, 2, 255)),
            *(("kind", Kind.SEGMENT), ("span", 0), ("span", 2**32 - 1), ("size", len(BOMB) + 1), ("size", 2**32 - 1)),
            *(("sequence", sequence) for sequence in (0, 1, 3, 2**63 - 1, 2**64 - 1)),
        ]
    )
    if name == "span" and value:
        fields["sequence"] = 2**63 - 2
    version, kind, span, size, sequence = {**fields, name: value}.values()
    header = HEADER.pack(version, kind, 0, span, size, 0, sequence, 2, 10**18)
    return chance.choice([header + BOMB, header[: chance.randrange(HEADER_SIZE_BYTES)]])


_FAMILIES: Final[dict[str, Callable[[Random], bytes]]] = {
    "no message": _no_message,
    "no trainer's": _no_trainers_message,
    "hello": _hello,
    "data": _data,
}
_WEIGHTS: Final = (1, 1, 9, 9)
