"""``python -m benchmarks.projection``: a recording of scalars to event files, beside tensorboardX's ``add_scalar``.

The benchmark makes a recording of steps with twenty tags, untimed. It then times ``replay`` as a process of its own,
from start to exit, and reads the peak memory of that process. tensorboardX writes the first of the same numbers in this
process.

It also projects a recording with and without the watch for findings, in turns, in this process, and compares the
processor's time: once with twenty tags that mean nothing to the rules, and once with five curves among them that do.
The table of the watch alone has its time and its memory.
"""

import logging
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from time import perf_counter, process_time
from unittest.mock import patch

from benchmarks.measure import begin, print_table
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.logger_service.projection.report import ProjectionCounts
from tensorboard_sidecar.logger_service.projection.stream import StreamProjection
from tensorboard_sidecar.logger_service.projection.stream_findings import StreamFindings
from tensorboard_sidecar.protocol.codec import encode_body, encode_scalars
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import RunEnd, RunStart
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream

TAGS = [f"group{number % 4}/value{number}" for number in range(20)]
# The same number of tags, five of them with roles that rules read: those that the reference trainer logs at each step.
CURVES = [
    *("loss/train/total", "optimization/lr", "optimization/grad_norm", "optimization/grad_norm_clipped"),
    "optimization/temperature",
]
TAGS_AND_CURVES = CURVES + TAGS[len(CURVES) :]
_BATCH_STEPS = 1000
_TURNS = 5
_START_NS = 1_700_000_000_000_000_000
_PEER_SCALARS_MAX = 100_000


def main() -> None:
    """Measure and print a table."""
    options = begin(
        __doc__,
        scalars=([1_000_000, 10_000_000], "in each recording"),
        watched=(1_000_000, "scalars that are projected with and without the watch"),
        remembered=(1_000_000, "records after which the memory of the watch is measured"),
    )
    _compare_watch(options.watched)
    _measure_watch(options.watched, options.remembered)
    logging.getLogger("tensorboardX").setLevel(logging.ERROR)
    rates: list[tuple[str, float, str]] = []
    for scalars in options.scalars:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_recording(folder / "recordings", scalars // len(TAGS))
            seconds, memory_bytes = _replay(folder)
        rates.append((f"replay of {scalars:,}", scalars / seconds, f"{memory_bytes / 2**20:,.0f} MiB"))
    with tempfile.TemporaryDirectory() as name:
        count = min(_PEER_SCALARS_MAX, *options.scalars)
        peer_rate = count / _peer(Path(name), count)
    rates.append((f"tensorboardX add_scalar, {count:,}", peer_rate, ""))
    rows = [[name, f"{rate / peer_rate:.1f}", f"{rate:,.0f}", memory] for name, rate, memory in rates]
    print_table("Scalars to event files", ["", "times tensorboardX", "scalars/s", "peak memory"], rows)


def _compare_watch(scalars: int) -> None:
    """Print the processor's time of a projection with and without the watch."""
    rows = []
    for name, tags in (("twenty tags without a role", TAGS), ("five of twenty with a role", TAGS_AND_CURVES)):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_recording(folder / "recordings", scalars // len(tags), tags)
            numbers = count()
            seconds: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(_TURNS):
                for watched, found in seconds.items():
                    found.append(_project(folder / "recordings", folder / f"log {next(numbers)}", watched=watched))
        steps = scalars / len(tags)
        with_it, without = (min(found) / steps * 1e6 for found in seconds.values())
        rows.append([name, f"{without:.2f} us", f"{with_it:.2f} us", f"{100 * (with_it / without - 1):.1f} %"])
    print_table(f"Projection of {scalars:,} scalars, a record", ["", "without the watch", "with it", "more"], rows)


def _project(recordings: Path, logdir: Path, *, watched: bool) -> float:
    """Return the seconds of the processor."""
    (folder,) = (segment.parent for segment in recordings.rglob("*.segment"))
    with ExitStack() as stack:
        if not watched:
            for name in ("see", "see_scalars"):
                stack.enter_context(patch.object(StreamFindings, name, lambda *_: None))
        projection = StreamProjection(folder, logdir, ProjectionCounts())
        started = process_time()
        while projection.advance(2**18):
            pass
        seconds = process_time() - started
        projection.close()
    return seconds


def _measure_watch(scalars: int, remembered: int) -> None:
    """Print the processor's time and the memory of the watch alone."""
    rows = []
    for name, tags in (("twenty tags without a role", TAGS), ("five of twenty with a role", TAGS_AND_CURVES)):
        steps = scalars // len(tags)
        values = [dict.fromkeys(tags, 1.0 + step % 7) for step in range(1000)]
        seconds = min(_watch(values, steps) for _ in range(_TURNS))
        tracemalloc.start()
        watch = Watch(RULES)
        for step in range(remembered):
            watch.scalars(step, _START_NS + step * 10**8, values[step % 1000])
        size_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        rows.append([name, f"{seconds / steps * 1e6:.2f} us", f"{size_bytes / 2**20:.1f} MiB"])
    print_table("The watch alone, a record", ["", "processor", f"memory after {remembered:,}"], rows)


def _watch(values: Sequence[dict[str, float]], steps: int) -> float:
    watch = Watch(RULES)
    started = process_time()
    for step in range(steps):
        watch.scalars(step, _START_NS + step * 10**8, values[step % len(values)])
    return process_time() - started


def write_recording(root: Path, steps: int, tags: Sequence[str] = tuple(TAGS)) -> None:
    """Write a recording of ``steps`` records of twenty scalars below ``root``."""
    stream = Stream("benchmark")
    writer = RecordingWriter(root / stream.run / stream.folder_name, stream, wall_time_ns=_START_NS)
    _append(writer, [(Kind.RUN_START, 0, encode_body(RunStart(0, {})))])
    for start in range(0, steps, _BATCH_STEPS):
        batch = range(start, min(start + _BATCH_STEPS, steps))
        _append(
            writer,
            [(Kind.SCALARS, step, encode_scalars(dict.fromkeys(tags, 1.5 - step % 100 / 1e3))) for step in batch],
        )
    _append(writer, [(Kind.RUN_END, steps, encode_body(RunEnd("completed")))])
    writer.sync()
    writer.close()


def _append(writer: RecordingWriter, records: list[tuple[Kind, int, bytes]]) -> None:
    first = writer.next_sequence
    frames = [
        pack_frame(pack_record(Record(kind, sequence, step, _START_NS + step * 10**6, body)))
        for sequence, (kind, step, body) in enumerate(records, first)
    ]
    writer.append(FrameBatch(memoryview(b"".join(frames)), first, first + len(records)))


def _replay(folder: Path) -> tuple[float, int]:
    """Return the seconds of a replay, and the most bytes its process had resident."""
    arguments = ["-m", "tensorboard_sidecar", "replay", str(folder / "recordings"), "--logdir", str(folder / "runs")]
    started = perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"replay ended with {os.waitstatus_to_exitcode(status)}")
    return perf_counter() - started, usage.ru_maxrss * 1024


def _peer(folder: Path, scalars: int) -> float:
    """Return the seconds tensorboardX takes."""
    # Here: a process begins with the peak memory of its parent, and this import loads torch.
    import tensorboardX  # noqa: PLC0415 - see above

    started = perf_counter()
    writer = tensorboardX.SummaryWriter(str(folder))
    for step in range(scalars // len(TAGS)):
        for tag in TAGS:
            writer.add_scalar(tag, step + 0.5, step)
    writer.close()
    return perf_counter() - started


if __name__ == "__main__":
    main()
