from random import Random

import numpy as np
import pytest

from tensorboard_sidecar.trainer.data import speech
from tensorboard_sidecar.trainer.data.speech import (
    PITCH,
    RATE_HZ,
    VOICES,
    WORDS_PER_MINUTE,
    SpeechError,
    Utterance,
    speak_all,
    utterance,
)

SENTENCES = [Utterance(f"A red ring over {n} stars.", VOICES[n % len(VOICES)], 200, 50) for n in range(14)]


def test_samples_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "BATCH_UTTERANCES", 5)
    one, three = list(speak_all(SENTENCES, 1)), list(speak_all(SENTENCES, 3))
    assert len(one) == len(SENTENCES)
    assert all(np.array_equal(a, b) for a, b in zip(one, three, strict=True))


def test_sentences_come_back_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "BATCH_UTTERANCES", 2)
    texts = [
        "Star.",
        "A red star.",
        "A small red star over a ring.",
        "Three small red stars to the left of a blue ring.",
    ]
    lengths = [len(samples) for samples in speak_all([Utterance(text, "en-us", 200, 50) for text in texts])]
    assert lengths == sorted(lengths)
    assert len(set(lengths)) == len(texts)


def test_every_voice_is_there_and_sounds_different() -> None:
    spoken = list(speak_all([Utterance("Two blue squares.", voice, 200, 50) for voice in VOICES]))
    assert len({samples.tobytes() for samples in spoken}) == len(VOICES)
    for samples in spoken:
        assert samples.dtype == np.int16
        assert 0.5 < len(samples) / RATE_HZ < 3
        assert 3000 < np.abs(samples.astype(int)).max() < 32767


def test_more_words_a_minute_take_less_time() -> None:
    slow, fast = speak_all([Utterance("A green star over a ring.", "en-us", rate, 50) for rate in WORDS_PER_MINUTE])
    assert len(fast) < 0.95 * len(slow)


def test_a_sentence_gets_a_voice_a_speed_and_a_pitch_by_chance() -> None:
    random = Random(0)
    drawn = [utterance("Hello", random) for _ in range(200)]
    assert {each.voice for each in drawn} == set(VOICES)
    assert {each.words_per_minute for each in drawn} <= set(range(WORDS_PER_MINUTE[0], WORDS_PER_MINUTE[1] + 1))
    assert {each.pitch for each in drawn} <= set(range(PITCH[0], PITCH[1] + 1))


def test_a_voice_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(SpeechError, match="no voice 'nobody'"):
        list(speak_all([Utterance("Hello", "nobody", 200, 50)]))


def test_a_sentence_without_sound_is_an_error() -> None:
    with pytest.raises(SpeechError, match="silence"):
        list(speak_all([Utterance("", "en-us", 200, 50)]))


def test_nothing_to_say_takes_no_process() -> None:
    assert list(speak_all([])) == []
