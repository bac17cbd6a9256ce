"""A writer, a reader that follows the writer, and every event that can happen to both, in any order.

Whatever happens, every record that was appended is read once and in order, and what was durable is never asked for
again. The sender is played by numbered records that are the same whenever they are sent.
"""

import errno
import os
import shutil
import tempfile
from pathlib import Path
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.running.runs import STREAM, make_record, make_run

from tensorboard_sidecar.protocol.record import FrameBatch, Record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.recording_writer import RecordingWriter
from tensorboard_sidecar.protocol.storage.segment import list_segments

FAILURE = OSError(errno.EIO, os.strerror(errno.EIO))


def numbered(sequence: int) -> Record:
    """Return the record of a number: small and large ones, in no order."""
    return make_record(sequence, size_bytes=sequence * 73 % 300)


def run_from(first: int, count: int = 1) -> FrameBatch:
    return make_run(*map(numbered, range(first, first + count)))


class RecordingMachine(RuleBasedStateMachine):
    """``durable`` is the promised sequence number; ``read`` is the number that the reader must return next."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="recording-"))
        self.folder = self.root / STREAM.folder_name
        self.read = self.durable = 1
        self.reader: RecordingReader | None = None
        self.writer = self.open_writer()

    def open_writer(self) -> RecordingWriter:
        return RecordingWriter(
            self.folder, STREAM, wall_time_ns=0, first_held_sequence=self.durable, segment_size_max_bytes=900
        )

    @rule(count=st.integers(1, 4))
    def append(self, count: int) -> None:
        self.writer.append(run_from(self.writer.next_sequence, count))
        self.durable = self.writer.durable_sequence  # a segment may have been finished on the way

    @rule()
    def sync(self) -> None:
        self.writer.sync()
        assert self.writer.durable_sequence == self.writer.next_sequence
        self.durable = self.writer.durable_sequence

    @rule()
    def suspend(self) -> None:
        self.writer.suspend()
        assert not self.writer._segment.is_open
        self.durable = self.writer.durable_sequence

    @rule()
    def fail_to_sync(self) -> None:
        with mock.patch.object(os, "fdatasync", side_effect=FAILURE):
            try:
                self.writer.sync()
            except OSError:
                assert self.writer.next_sequence == self.writer.durable_sequence == self.durable

    @rule(kept_size_bytes=st.integers(0, 400))
    def fail_to_append(self, kept_size_bytes: int) -> None:
        """Let the disk take some bytes of a run, then no more."""
        real = os.write
        left = [kept_size_bytes]

        def write(file: int, data: memoryview) -> int:
            if not left[0]:
                raise FAILURE
            written = real(file, data[: left[0]])
            left[0] -= written
            return written

        with mock.patch.object(os, "write", write):
            try:
                self.writer.append(run_from(self.writer.next_sequence, 2))
            except OSError:
                assert self.writer.next_sequence == self.writer.durable_sequence >= self.durable
        self.durable = self.writer.durable_sequence

    @precondition(lambda self: bool(list_segments(self.folder)))
    @rule(torn=st.binary(max_size=3) | st.integers(1, 60))
    def kill(self, torn: bytes | int) -> None:
        """Let the process die, perhaps within a write, and another process continue; written bytes stay."""
        following = run_from(self.writer.next_sequence).frames
        self.writer._segment.close()
        with list_segments(self.folder)[-1].path.open("ab") as file:
            file.write(torn if isinstance(torn, bytes) else following[:torn])
        self.writer = self.open_writer()
        assert self.writer.next_sequence == self.writer.durable_sequence >= self.durable
        self.durable = self.writer.durable_sequence

    @precondition(lambda self: bool(list_segments(self.folder)))
    @rule(share=st.floats(0, 1), torn_size_bytes=st.integers(0, 200))
    def lose_power(self, share: float, torn_size_bytes: int) -> None:
        """Take away unsynced bytes: cut them off, or leave zeros with whole records behind the zeros."""
        self.close_reader()
        path = list_segments(self.folder)[-1].path
        size = path.stat().st_size
        kept = self.writer._segment.durable_size_bytes if self.writer._segment.is_open else size
        self.writer._segment.close()
        if kept < size:
            with path.open("r+b") as file:
                file.seek(kept + int(share * (size - kept)))
                file.write(bytes(min(torn_size_bytes, size - file.tell())))
                if not torn_size_bytes:
                    file.truncate()
        self.writer = self.open_writer()
        assert self.writer.next_sequence >= self.durable
        self.durable = self.writer.durable_sequence

    @rule(size_max_bytes=st.sampled_from((1, 100, 1000, 2**20)))
    def follow(self, size_max_bytes: int) -> None:
        self.take(self.open_reader().read(size_max_bytes))

    @precondition(lambda self: self.reader is not None)
    @rule()
    def restart_reader(self) -> None:
        self.close_reader()

    @invariant()
    def what_is_durable_is_kept(self) -> None:
        assert self.writer.next_sequence >= self.writer.durable_sequence >= self.durable

    def open_reader(self) -> RecordingReader:
        if self.reader is None and list_segments(self.folder):
            self.reader = RecordingReader(self.folder, next_sequence=self.read)
        return self.reader or mock.Mock(read=lambda _: [])

    def close_reader(self) -> None:
        if self.reader is not None:
            assert self.reader.holes == []
            self.reader.close()
            self.reader = None

    def take(self, records: list[Record]) -> None:
        """Check that the records are those that are due."""
        for record in records:
            assert record == numbered(self.read)
            self.read = record.next_sequence

    def teardown(self) -> None:
        try:
            while self.writer.next_sequence < self.read:  # records that the reader saw at an unsynced end come again
                self.writer.append(run_from(self.writer.next_sequence))
            self.writer.close()
            if list_segments(self.folder):
                while records := self.open_reader().read():
                    self.take(records)
                assert self.read == self.writer.next_sequence
                self.close_reader()
                self.read = 1
                while records := self.open_reader().read(500):
                    self.take(records)
                assert self.read == self.writer.next_sequence
                self.close_reader()
        finally:
            shutil.rmtree(self.root)


TestRecording = RecordingMachine.TestCase
TestRecording.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
