"""The ids of events, and the checksums of the frames they lie in, read without this project's own reader."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c
from support.records.events import event_files, id_of
from tensorboardX.proto.event_pb2 import Event


class Written(NamedTuple):
    """An event: its stream, the last sequence number of its record, and its place among the events of the record.

    ``announces``: it says that findings of the record follow. ``findings``: it holds them.
    """

    stream: bytes
    sequence: int
    place: int
    announces: bool
    findings: bool


def read_event_ids(folder: Path, problems: list[str]) -> Iterator[tuple[bytes, int, int]]:
    """Yield (stream, sequence, place) of each event in a folder, in TensorBoard's order."""
    for written in read_written(folder, problems):
        yield written[:3]


def read_written(folder: Path, problems: list[str]) -> Iterator[Written]:
    """Yield each event in a folder, in TensorBoard's order.

    What is torn at a file's end was never whole, and passes; a wrong checksum before it goes to ``problems``.
    """
    for path in event_files(folder):
        for payload in _payloads(path, problems):
            event = Event.FromString(payload)
            if event.WhichOneof("what") == "file_version":
                continue
            stream, sequence, place = id_of(event).split("/")
            bare = place.removesuffix("+")
            findings = event.WhichOneof("what") == "summary" and event.summary.value[0].tag == "findings/open"
            yield Written(bytes.fromhex(stream), int(sequence), int(bare), place != bare, findings)


def _payloads(path: Path, problems: list[str]) -> Iterator[bytes]:
    data, start = path.read_bytes(), 0
    while start + 12 <= len(data):
        length, head_crc = struct.unpack_from("<QI", data, start)
        end = start + 12 + length + 4
        if _masked(data[start : start + 8]) != head_crc:
            problems.append(f"{path.name} at byte {start}: wrong checksum of a length")
            return
        if end > len(data):
            return
        payload = data[start + 12 : end - 4]
        if _masked(payload) != struct.unpack_from("<I", data, end - 4)[0]:
            problems.append(f"{path.name} at byte {start}: wrong checksum of an event")
        else:
            yield payload
        start = end


def _masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
