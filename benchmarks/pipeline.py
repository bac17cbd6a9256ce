"""``python -m benchmarks.pipeline``: throughput from the outbox to the acknowledgement, and that of the disk alone.

The benchmark first publishes records of one size without a pause (outbox, sender, ZeroMQ, receiver, journal, fdatasync,
acknowledgement), for the throughput. It then publishes a hundred records a second, for the time until each
acknowledgement. "Disk alone" is a plain program that writes the same number of bytes to the same disk and syncs every
8 MiB, as the journal does. The logger's projection is stopped, since the benchmark measures durability, not drawing.
"""

import os
import signal
import statistics
import tempfile
from collections import deque
from pathlib import Path
from time import perf_counter, sleep, time_ns

from benchmarks.loggers import running_logger
from benchmarks.measure import begin, format_ns, print_table
from tensorboard_sidecar.protocol.codec import encode_scalars
from tensorboard_sidecar.protocol.outbox.outbox_files import OUTBOX_BYTES, outbox_root
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.telemetry.outbox.backlog import Backlog
from tensorboard_sidecar.telemetry.outbox.outbox import Outbox
from tensorboard_sidecar.telemetry.shipping.link import LoggerLink
from tensorboard_sidecar.telemetry.shipping.sender import Sender

SIZES = {"200 B": 200, "64 KiB": 2**16, "1 MiB": 2**20}
_SYNC_BYTES = 8 * 2**20
_RATE_PER_SECOND = 100
_STALL_SECONDS = 0.0005


def main() -> None:
    """Measure and print a table."""
    options = begin(__doc__, seconds=(5.0, "time for each size, about"))
    rows = []
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory() as folder, running_logger(Path(folder)) as (endpoint, logger):
            _stop_children(logger.pid)
            records, seconds = _publish(endpoint, size, options.seconds)
            p50_seconds = _latency(endpoint, size, 2.0)
            floor = _disk_floor(Path(folder), size * records)
            logger.kill()  # its projection has nothing to draw
        speed = records * size / seconds
        speeds = [f"{speed / floor:.2f}", f"{records / seconds:,.0f}", f"{speed / 1e6:,.0f}", f"{floor / 1e6:,.0f}"]
        rows.append([name, *speeds, format_ns(p50_seconds * 1e9)])
    columns = ["record", "over disk alone", "records/s", "MB/s", "disk alone, MB/s", "ack p50"]
    print_table("Outbox to acknowledgement", columns, rows)


class _Publisher:
    """An outbox and its sender, without the facade."""

    def __init__(self, endpoint: str, size_bytes: int) -> None:
        self._body = encode_scalars({"padding": 0.0}).ljust(max(0, size_bytes - 40), b"\0")
        stream = Stream(f"benchmark/{size_bytes}")
        self.outbox = Outbox(
            outbox_root() / stream.id.hex(), stream, capacity_bytes=OUTBOX_BYTES, wall_time_ns=time_ns()
        )
        self.sender = Sender(Backlog(self.outbox), LoggerLink(self.outbox, endpoint), None, lambda: False)
        self.sender.start()

    def append(self) -> int:
        return self.outbox.append(Kind.TEXT, 0, time_ns(), self._body)

    def close(self) -> None:
        self.sender.stop(60.0)
        self.sender.finish()
        self.outbox.close(keep=False)


def _publish(endpoint: str, size_bytes: int, seconds: float) -> tuple[int, float]:
    """Return how many records were acknowledged, and the seconds from the first call to the last acknowledgement."""
    publisher = _Publisher(endpoint, size_bytes)
    started, last = perf_counter(), 0
    while perf_counter() - started < seconds:
        if publisher.outbox.used_bytes > OUTBOX_BYTES // 4:
            sleep(_STALL_SECONDS)
            continue
        for _ in range(max(1, 2**16 // size_bytes)):
            last = publisher.append()
    while publisher.sender.acked_sequence <= last:
        sleep(_STALL_SECONDS)
    elapsed = perf_counter() - started
    publisher.close()
    return last, elapsed


def _latency(endpoint: str, size_bytes: int, seconds: float) -> float:
    """Return the median seconds between a call and its acknowledgement, at a hundred records a second."""
    publisher = _Publisher(endpoint, size_bytes)
    called: deque[tuple[int, float]] = deque()
    latencies = []
    end = perf_counter() + seconds
    due = perf_counter()
    while (now := perf_counter()) < end or called:
        if due <= now < end:
            called.append((publisher.append(), now))
            due += 1 / _RATE_PER_SECOND
        while called and called[0][0] < publisher.sender.acked_sequence:
            latencies.append(perf_counter() - called.popleft()[1])
        sleep(_STALL_SECONDS)
    publisher.close()
    return statistics.median(latencies)


def _disk_floor(folder: Path, size_bytes: int) -> float:
    """Return bytes a second of plain writes with an fdatasync after each 8 MiB."""
    block = os.urandom(2**20)
    path = folder / "floor"
    started, written = perf_counter(), 0
    with path.open("wb", buffering=0) as file:
        while written < size_bytes:
            written += file.write(block)
            if written % _SYNC_BYTES == 0:
                os.fdatasync(file.fileno())
        os.fdatasync(file.fileno())
    speed = written / (perf_counter() - started)
    path.unlink()
    return speed


def _stop_children(pid: int) -> None:
    """Stop (SIGSTOP) the processes that a process started."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split():
        os.kill(int(child), signal.SIGSTOP)


if __name__ == "__main__":
    main()
