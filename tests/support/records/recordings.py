"""Recordings for tests: real files, written by the writer of the logger's journal."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from support.records.golden import RECORDS

from tensorboard_sidecar.protocol.array import pack_array
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.frame import pack_frame
from tensorboard_sidecar.protocol.kinds import KINDS, kind_of
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Chart,
    Embedding,
    Gap,
    Graph,
    GraphNode,
    HParams,
    Images,
    Layout,
    Matrix,
    Message,
    RunEnd,
    RunStart,
    Scalars,
    SegmentHead,
    TensorSummaries,
    TensorSummary,
    Text,
)
from tensorboard_sidecar.protocol.record import FrameBatch, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.stream import Stream

START_NS = 1_700_000_000_000_000_000
STREAM_ID = bytes(range(16))


class Said(NamedTuple):
    """A message and its step."""

    step: int
    message: Message


def make_stream(run: str = "demo", *, rank: int = 0, attempt: int = 0, stream_id: bytes = STREAM_ID) -> Stream:
    """Return a stream with the same id in every test."""
    return Stream(run, rank, attempt, stream_id)


def make_records(said: Iterable[Said], *, first_sequence: int = 1, start_ns: int = START_NS) -> list[Record]:
    """Return records with consecutive sequence numbers, a second apart."""
    return [
        Record(kind_of(message), sequence, step, start_ns + sequence * 10**9, encode_body(message))
        for sequence, (step, message) in enumerate(said, first_sequence)
    ]


def append_records(folder: Path, stream: Stream, records: Sequence[Record], **options: int) -> Path:
    """Append records to the recording in ``folder``, which is created when missing; return the folder."""
    writer = RecordingWriter(folder, stream, **{"wall_time_ns": START_NS} | options)
    for record in records:
        frames = memoryview(pack_frame(pack_record(record)))
        writer.next_sequence = record.sequence  # a test may leave a hole
        writer.append(FrameBatch(frames, record.sequence, record.next_sequence))
    writer.close()
    return folder


def write_recording(root: Path, said: Iterable[Said], stream: Stream | None = None, **options: int) -> Path:
    """Write a recording at the logger's path under ``root``; return the folder."""
    stream = stream or make_stream()
    return append_records(root / stream.run / stream.folder_name, stream, make_records(said), **options)


def summarise(values: npt.ArrayLike) -> TensorSummary:
    """Return the summary of finite values, none of them zero, with 3 mantissa bits."""
    numbers = np.asarray(values, np.float32)
    indexes, counts = np.unique(numbers.view(np.uint32) >> 20, return_counts=True)
    wide = numbers.astype(np.float64)
    return TensorSummary(
        count=numbers.size,
        zeros=0,
        nans=0,
        positive_infinities=0,
        negative_infinities=0,
        minimum=float(wide.min()),
        maximum=float(wide.max()),
        sum=float(wide.sum()),
        sum_squares=float((wide**2).sum()),
        mantissa_bits=3,
        indexes=pack_array(indexes.astype(np.uint16)),
        counts=pack_array(counts.astype(np.uint64)),
    )


def make_embedding(tag: str, rows: int = 12, columns: int = 5, seed: int = 0) -> Embedding:
    """Return points with two columns of metadata and thumbnails."""
    random = np.random.default_rng(seed)
    return Embedding(
        tag,
        pack_array(random.normal(size=(rows, columns)).astype(np.float32)),
        ["caption", "modality"],
        [[f"caption {row}", "text"] for row in range(rows)],
        pack_array(random.integers(0, 255, (rows, 6, 8, 3), dtype=np.uint8)),
    )


# Long: a list, one message after the other.
def every_kind(steps: Sequence[int] = (1, 2, 3)) -> list[Said]:
    """Return a small run with messages of every kind except gaps: the golden example where the run has no other."""
    random = np.random.default_rng(0)
    said = [
        Said(0, RunStart(0, {"lr": 0.001, "epochs": 2, "name": "a|b", "compile": False})),
        Said(
            0,
            Layout(
                {
                    "Training Progress": {"loss": Chart("multiline", ["^loss/.*$"])},
                    "Embeddings": {"norm": Chart("margin", ["loss/total", "loss/text", "loss/image"])},
                }
            ),
        ),
        Said(
            0,
            Graph(
                [
                    GraphNode("input", "Input", output_shapes=[[-1, 8]]),
                    GraphNode("model/text/linear", "Linear", ["input"], [[-1, 4]], {"in_features": "8"}),
                    GraphNode("model/fusion", "Fusion", ["model/text/linear"], [[-1, 4]]),
                ]
            ),
        ),
    ]
    for step in steps:
        weights = {f"weights/layer{n}.weight": summarise(random.normal(size=64)) for n in range(3)}
        clip = (8000 * np.sin(np.arange(800) / 9)).astype(np.int16)[:, None]
        pictures = pack_array(random.integers(0, 255, (4, 16, 12, 3), dtype=np.uint8))
        said += [
            Said(step, Scalars({"loss/total": 1 / step, "loss/text": 0.5 / step, "loss/image": 2 / step})),
            Said(step, TensorSummaries(weights)),
            Said(
                step,
                Matrix(
                    "similarity/text_vs_image",
                    pack_array(random.normal(size=(6, 6)).astype(np.float32)),
                    "text against image",
                    "text",
                    "image",
                    (-1.0, 1.0),
                ),
            ),
            Said(step, Images("samples/images", pictures, ["a red circle", "two blue squares", "", "c"])),
            Said(step, Images("samples/plain", pictures)),
            Said(step, Text("samples/captions", "| # | caption |\n| --- | --- |\n| 1 | a red circle |")),
            Said(step, Audio("samples/audio", [pack_array(clip), pack_array(clip[::2])], 16_000, ["one", "two"])),
            Said(step, make_embedding("text", seed=step)),
            Said(step, make_embedding("joint", seed=100 + step)),
        ]
    said.append(Said(steps[-1], HParams({"lr": 0.001, "precision": "bf16", "compile": True}, {"hparam/best": 0.25})))
    said.append(Said(steps[-1], RunEnd("completed")))
    there = {type(message) for _, message in said} | {SegmentHead, Gap}
    others = [Said(0, RECORDS[row.name].message) for row in KINDS if row.message_type not in there]
    return said[:1] + others + said[1:]
