"""Event files as other programs write them, made value by value."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from tensorboard_sidecar.protocol.frame import pack_frame

START_SECONDS = 1_700_000_000.0


def point(tag: str, step: int, value: float, *, later_seconds: float = 0.0) -> Any:
    """Return an event with one point of a curve, a second a step."""
    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
    return Event(step=step, wall_time=START_SECONDS + later_seconds + step, summary=summary)


def session_start(step: int) -> Any:
    """Return the event that a writer with ``purge_step`` begins with."""
    return Event(step=step, wall_time=START_SECONDS, session_log=SessionLog(status=SessionLog.START))


def curve(tag: str, values: Iterable[float], *, first_step: int = 0, later_seconds: float = 0.0) -> list[Any]:
    """Return a point a step."""
    return [point(tag, step, value, later_seconds=later_seconds) for step, value in enumerate(values, first_step)]


def write_events(folder: Path, events: Iterable[Any], name: str = "1700000000.host.1.0") -> Path:
    """Write an event file, with the version that every program begins with; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{name}"
    version = Event(wall_time=START_SECONDS, file_version="brain.Event:2")
    path.write_bytes(b"".join(pack_frame(event.SerializeToString()) for event in (version, *events)))
    return path
