"""An independent reader of event files, which shares no code with this project's reader."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.graph_pb2 import GraphDef


def event_files(folder: Path) -> list[Path]:
    """Return the event files of one folder in the order TensorBoard reads them."""
    return sorted(folder.glob("events.out.tfevents.*"))


def load_events(path: Path) -> list[Any]:
    """Return the complete events of a file, without a torn event at the end."""
    return [Event.FromString(payload) for payload in _payloads(path.read_bytes())]


def load_folder(folder: Path) -> list[Any]:
    """Return the events of all files in a folder, without file_version events."""
    events = [event for path in event_files(folder) for event in load_events(path)]
    return [event for event in events if event.WhichOneof("what") != "file_version"]


def shown_sequences(folder: Path) -> list[int]:
    """Return the sequence numbers of the records that a folder shows, in order; findings of a record do not count."""
    ids = (id_of(event).rstrip("+").split("/") for event in load_folder(folder))
    return [int(sequence) for _, sequence, place in ids if place == "0"]


def id_of(event: Any) -> str:
    """Return the id in an event, as text."""
    match event.WhichOneof("what"):
        case "session_log":
            return str(event.session_log.msg)
        case "graph_def":
            return str(GraphDef.FromString(event.graph_def).node[0].attr["_telemetry_id"].s.decode())
        case _:
            return str(event.summary.value[0].node_name)


def summary_tags(folder: Path) -> list[str]:
    """Return the first tag of each summary event, in the order of writing; a blank event has the tag ""."""
    events = [event for event in load_folder(folder) if event.WhichOneof("what") == "summary"]
    return [event.summary.value[0].tag for event in events]


def values_by_tag(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Return (step, value) by tag, in the order of writing."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for event in load_folder(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
    return found


def folder_bytes(root: Path) -> dict[str, bytes]:
    """Return every file below ``root`` by its relative path, but for locks."""
    files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def _payloads(data: bytes) -> Iterator[bytes]:
    start = 0
    while start + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, start)
        end = start + 12 + length + 4
        if end > len(data):
            return
        yield data[start + 12 : end - 4]
        start = end
