"""The time that each call takes from the training thread, in each state of the logger and with a full outbox."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.loads import Load, train
from benchmarks.logger_process import free_port, running_logger
from benchmarks.logger_states import STATES, logger_state
from benchmarks.measure import COLUMNS, PERCENTS, format_ns, measure, print_table
from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.protocol.outbox.outbox_files import OUTBOX_BYTES

SCALAR_CALLS = 20_000
_CALLS = 25
WARM_UP = 3
# The pause between two large calls: background work of the first call ends. Real calls are minutes apart.
_PAUSE_SECONDS = 0.5
_FULL = "outbox full"
_FULL_BYTES = 2**20


def measure_calls(load: Load) -> None:
    """Measure each call in each state, and print a table."""
    rows = []
    for state in (*STATES, _FULL):
        with _telemetry(state) as telemetry:
            for name, call in _calls(load, telemetry).items():
                many = name == "scalars (19)"
                timing = measure(
                    call,
                    SCALAR_CALLS if many else _CALLS,
                    warm_up=WARM_UP,
                    pause=(lambda: None) if many else lambda: train(_PAUSE_SECONDS),
                )
                rows.append([name, state, *(format_ns(timing.percentile_ns(percent)) for percent in PERCENTS)])
    rows.sort(key=lambda row: row[0])  # the states of a call beside each other
    print_table("Each call, by the state of the logger", ["call", "logger", *COLUMNS], rows)


@contextmanager
def _telemetry(state: str) -> Iterator[Telemetry]:
    """Yield a telemetry whose logger is in ``state``; afterwards a working logger takes the remaining records."""
    port = free_port()
    full = state == _FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        telemetry = Telemetry(
            f"benchmark/{state.replace(' ', '_')}",
            endpoint=f"tcp://127.0.0.1:{port}",
            outbox_bytes=_FULL_BYTES if full else OUTBOX_BYTES,
            spill_dir="none" if full else None,
        )
        with logger_state("absent" if full else state, folder, port):
            while full and not telemetry.health()["telemetry/refused"]:
                telemetry.text(0, "filler", "x" * 1000)
                telemetry.scalars(0, {"filler": 0.0})
            yield telemetry
        with running_logger(folder, port):
            telemetry.close(60)


def _calls(load: Load, telemetry: Telemetry) -> dict[str, Callable[[int], None]]:
    tag, matrix = next(iter(load.matrices.items()))
    text = "\n\n".join(load.captions)
    return {
        "scalars (19)": lambda step: telemetry.scalars(step, load.scalars),
        "matrix (64x64)": lambda step: telemetry.matrix(step, tag, matrix, value_range=(-1.0, 1.0)),
        "images (16x3x224x224)": lambda step: telemetry.images(step, "samples/images", load.images),
        "text": lambda step: telemetry.text(step, "samples/captions", text),
        "embedding (256x128)": lambda step: telemetry.embedding(
            step, "text", load.vectors, metadata={"caption": load.labels}
        ),
        "summaries (23.4 M)": lambda step: telemetry.summaries(step, load.tensors),
    }
