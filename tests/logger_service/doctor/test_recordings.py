"""Recordings: what can be read is judged, and what cannot is said."""

from pathlib import Path

import pytest
from support.records.recordings import START_NS, Said, append_records, every_kind, make_records, make_stream

from tensorboard_sidecar.logger_service.doctor import recordings
from tensorboard_sidecar.logger_service.doctor.places import find_places
from tensorboard_sidecar.logger_service.doctor.recordings import judge_stream
from tensorboard_sidecar.logger_service.doctor.verdict import Verdict
from tensorboard_sidecar.logger_service.findings.rules.registry import RULES
from tensorboard_sidecar.logger_service.findings.watch import Watch
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.messages import Message, RunEnd, Scalars
from tensorboard_sidecar.protocol.record import Kind, Record
from tensorboard_sidecar.protocol.storage.segment import list_segments

SPIKE = [Said(step, Scalars({"loss": 10.0 if 300 <= step < 310 else 1.0})) for step in range(400)]


def judge(root: Path) -> tuple[Verdict, list[str]]:
    (place,) = find_places([root]).streams
    notes: list[str] = []
    shares: list[float] = []
    verdict = judge_stream(place, RULES, notes.append, shares.append)
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    return verdict, notes


def spikes(verdict: Verdict) -> list[tuple[int, int]]:
    return [(one.first_step, one.last_step) for one in verdict.findings if one.rule == "loss-spike"]


def test_a_whole_recording_is_judged(tmp_path: Path) -> None:
    append_records(tmp_path / "demo" / "one", make_stream(), make_records([*SPIKE, Said(400, RunEnd("completed"))]))
    verdict, notes = judge(tmp_path)
    assert spikes(verdict) == [(300, 309)]
    assert (verdict.run, verdict.ended, verdict.last_step, notes) == ("demo", True, 400, [])
    assert verdict.last_ns == START_NS + 401 * 10**9


def test_every_kind_can_be_judged(tmp_path: Path) -> None:
    append_records(tmp_path / "demo" / "one", make_stream(), make_records(every_kind()))
    assert judge(tmp_path)[1] == []


def test_a_kind_of_a_newer_program_is_passed_over(tmp_path: Path) -> None:
    records = make_records(SPIKE)
    records[10] = Record(77, records[10].sequence, 10, START_NS, b"?")
    append_records(tmp_path / "demo" / "one", make_stream(), records)
    verdict, notes = judge(tmp_path)
    assert (spikes(verdict), notes) == ([(300, 309)], [])


def test_a_recording_without_an_end_has_not_ended(tmp_path: Path) -> None:
    append_records(tmp_path / "demo" / "one", make_stream(), make_records(SPIKE))
    assert not judge(tmp_path)[0].ended


def test_a_run_of_slow_steps_is_silent_later(tmp_path: Path) -> None:
    """Ten times its usual step, and five minutes at least."""
    append_records(tmp_path / "fast" / "demo" / "one", make_stream(), make_records(SPIKE))
    slow = [record._replace(wall_time_ns=START_NS + record.sequence * 120 * 10**9) for record in make_records(SPIKE)]
    append_records(tmp_path / "slow" / "demo" / "one", make_stream(), slow)
    assert judge(tmp_path / "fast")[0].silent_seconds == 300.0
    assert judge(tmp_path / "slow")[0].silent_seconds == 1200.0


def test_a_record_that_no_rule_can_take_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_records(tmp_path / "demo" / "one", make_stream(), make_records(SPIKE))
    taken = recordings.observe

    def failing(watch: Watch, record: Record, message: Message | None) -> list[Finding]:
        if record.step == 7:
            raise ZeroDivisionError("seven")
        return taken(watch, record, message)

    monkeypatch.setattr(recordings, "observe", failing)
    verdict, notes = judge(tmp_path)
    assert spikes(verdict) == [(300, 309)]
    assert notes == ["record 8 cannot be judged: ZeroDivisionError('seven')"]


def test_a_damaged_byte_costs_one_record_and_is_said(tmp_path: Path) -> None:
    folder = append_records(tmp_path / "demo" / "one", make_stream(), make_records(SPIKE))
    (segment,) = list_segments(folder)
    data = bytearray(segment.path.read_bytes())
    data[len(data) // 2] ^= 1
    segment.path.write_bytes(data)
    verdict, notes = judge(tmp_path)
    assert spikes(verdict) == [(300, 309)]
    assert any("damaged" in note for note in notes)


def test_records_that_are_missing_are_said(tmp_path: Path) -> None:
    records = make_records(SPIKE)
    append_records(tmp_path / "demo" / "one", make_stream(), records[:50] + records[60:])
    verdict, notes = judge(tmp_path)
    assert (spikes(verdict), notes) == ([(300, 309)], ["records 51 to 60 are missing"])


def test_a_record_that_cannot_be_decoded_is_said(tmp_path: Path) -> None:
    records = make_records(SPIKE)
    records[10] = Record(Kind.SCALARS, records[10].sequence, 10, START_NS, b"\xc1")
    append_records(tmp_path / "demo" / "one", make_stream(), records)
    verdict, notes = judge(tmp_path)
    assert spikes(verdict) == [(300, 309)]
    (note,) = notes
    assert note.startswith("record 11 is not readable")


def test_two_recordings_of_one_stream_are_one(tmp_path: Path) -> None:
    """A journal and a recording by the trainer; or a journal, and the rest of an outbox."""
    records = make_records(SPIKE)
    append_records(tmp_path / "journal" / "demo" / "one", make_stream(), records[:250])
    append_records(tmp_path / "trainer" / "demo" / "one", make_stream(), records[200:])
    verdict, notes = judge(tmp_path)
    assert (spikes(verdict), notes, verdict.last_step) == ([(300, 309)], [], 399)


def test_a_recording_that_vanishes_is_said(tmp_path: Path) -> None:
    folder = append_records(tmp_path / "demo" / "one", make_stream(), make_records(SPIKE))
    (place,) = find_places([tmp_path]).streams
    for segment in list_segments(folder):
        segment.path.unlink()
    notes: list[str] = []
    assert judge_stream(place, RULES, notes.append).findings == []
    (note,) = notes
    assert "is not readable" in note
