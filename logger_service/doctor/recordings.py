"""Judges the recordings of one stream: shows every record to the rules, and says what of it cannot be read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from tensorboard_sidecar.logger_service.doctor.places import StreamPlace
from tensorboard_sidecar.logger_service.doctor.verdict import Verdict
from tensorboard_sidecar.logger_service.findings.records import UNWATCHED, observe
from tensorboard_sidecar.logger_service.findings.rule import Rule
from tensorboard_sidecar.logger_service.findings.silence import Silence
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.codec import decode_message
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import list_segments

# Lines about one recording; the last line counts the others.
SHOWN_MAX: Final = 10


def judge_stream(
    place: StreamPlace,
    rules: Iterable[Rule],
    note: Callable[[str], object],
    progress: Callable[[float], object] = lambda _: None,
) -> Verdict:
    """Return the verdict on a stream. ``note`` takes lines about what cannot be read, ``progress`` the share read."""
    stream = place.beginning.stream
    verdict = Verdict(place.run, stream.rank, stream.attempt, superseded=place.superseded, ended=False)
    watch, silence = Watch(rules), Silence()
    for number, record in enumerate(_read(place.folders, note, progress)):
        if record.kind not in UNWATCHED:
            try:
                observe(watch, record, decode_message(record))
            except ProtocolError as error:
                note(f"record {record.sequence:,} is not readable: {error}")
                continue
            except Exception as error:  # noqa: BLE001 - said; the other records are judged
                note(f"record {record.sequence:,} cannot be judged: {error!r:.200}")
        silence.add([(record.step, record.wall_time_ns)])
        verdict.ended |= record.kind == Kind.RUN_END
        verdict.last_ns = max(verdict.last_ns, record.wall_time_ns)
        verdict.last_step = max(verdict.last_step, record.step) if number else record.step
    verdict.silent_seconds = silence.limit_seconds
    verdict.take(watch)
    return verdict


def _read(
    folders: Sequence[Path], note: Callable[[str], object], progress: Callable[[float], object]
) -> Iterator[Record]:
    """Yield the records of the recordings of one stream, each once."""
    next_sequence, read = 1, 0
    total = sum(map(_size, folders))
    for folder in folders:
        try:
            with closing(RecordingReader(folder, next_sequence=next_sequence)) as reader:
                while records := reader.read():
                    read += sum(len(record.body) for record in records)
                    progress(min(read / max(total, 1), 1.0))
                    yield from records
                for line in [f"damaged: {damage}" for damage in reader.damages] + [
                    f"records {first:,} to {last:,} are missing" for first, last in reader.holes
                ]:
                    note(line)
                next_sequence = reader.next_sequence
        except (ProtocolError, OSError) as error:
            note(f"recording {folder} is not readable: {error}")


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(segment.path.stat().st_size for segment in list_segments(folder))
    return 0
