"""``python -m benchmarks.projection``: a recording of scalars to event files, beside tensorboardX's ``add_scalar``.

The benchmark makes a recording of steps with twenty tags, untimed. It then times ``replay`` as a process of its own,
from start to exit, and reads the peak memory of that process. tensorboardX writes the first of the same numbers in this
process.
"""

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.measure import begin, print_table
from tensorboard_sidecar.protocol.codec import encode_body, encode_scalars
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.messages import RunEnd, RunStart
from tensorboard_sidecar.protocol.record import FrameBatch, Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream

TAGS = [f"group{number % 4}/value{number}" for number in range(20)]
_BATCH_STEPS = 1000
_START_NS = 1_700_000_000_000_000_000
_PEER_SCALARS_MAX = 100_000


def main() -> None:
    """Measure and print a table."""
    options = begin(__doc__, scalars=([1_000_000, 10_000_000], "in each recording"))
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


def write_recording(root: Path, steps: int) -> None:
    """Write a recording of ``steps`` records of twenty scalars below ``root``."""
    stream = Stream("benchmark")
    writer = RecordingWriter(root / stream.run / stream.folder_name, stream, wall_time_ns=_START_NS)
    _append(writer, [(Kind.RUN_START, 0, encode_body(RunStart(0, {})))])
    for start in range(0, steps, _BATCH_STEPS):
        batch = range(start, min(start + _BATCH_STEPS, steps))
        _append(writer, [(Kind.SCALARS, step, encode_scalars(dict.fromkeys(TAGS, step + 0.5))) for step in batch])
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
