"""Text to speech: chooses a voice for each sentence, runs eSpeak NG in processes, and resamples the sound.

The voices are those of eSpeak NG (see ``espeak``); the result has 16 kHz, the rate of the Flickr Audio Caption Corpus.
"""

import json
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tensorboard_sidecar.trainer.data.resampling import RATE_HZ, resample

ESPEAK_RATE_HZ: Final = 22_050

VOICES: Final = ("en-us", "en-us+f2", "en-gb-x-rp+m3", "en-gb-scotland+f4", "en-029", "en-us+m7")
WORDS_PER_MINUTE: Final = (180, 235)
PITCH: Final = (40, 60)

BATCH_UTTERANCES: Final = 200
"""Sentences in a process. A fixed number, because the noise in a sentence's samples depends on the sentences before in
the same process; with a fixed number all machines make the same data set."""

PROCESS_SECONDS_MAX: Final = 120.0
"""A batch takes one to two seconds; a process that takes longer than this hangs."""


class SpeechError(RuntimeError):
    """eSpeak NG failed; the message has the last line of its error output."""


class Utterance(NamedTuple):
    """A sentence with its voice, speed and pitch (0-99)."""

    text: str
    voice: str
    words_per_minute: int
    pitch: int


def utterance(text: str, random: Random) -> Utterance:
    """Return the sentence with a random voice, speed and pitch."""
    return Utterance(text, random.choice(VOICES), random.randint(*WORDS_PER_MINUTE), random.randint(*PITCH))


def speak_all(utterances: Sequence[Utterance], processes: int | None = None) -> Iterator[NDArray[np.int16]]:
    """Yield the samples of each utterance at 16 kHz, in order, spoken by several processes in parallel.

    The samples depend on the whole sequence, but not on ``processes`` (default: the number of cores). At most two
    batches for each process are spoken ahead of the reader. Raises SpeechError.
    """
    processes = processes or os.cpu_count() or 1
    batches = (utterances[i : i + BATCH_UTTERANCES] for i in range(0, len(utterances), BATCH_UTTERANCES))
    ahead: deque[Future[list[NDArray[np.int16]]]] = deque()
    with ThreadPoolExecutor(processes) as pool:
        try:
            for batch in batches:
                ahead.append(pool.submit(_speak_batch, batch))
                if len(ahead) > 2 * processes:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _speak_batch(utterances: Sequence[Utterance]) -> list[NDArray[np.int16]]:
    """Speak a batch in a fresh process."""
    program = Path(__file__).with_name("espeak.py")
    try:
        done = subprocess.run(  # noqa: S603 - this project's own file, by its full path
            [sys.executable, "-P", str(program)],
            input=json.dumps(utterances).encode(),
            capture_output=True,
            check=True,
            timeout=PROCESS_SECONDS_MAX,
        )
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise SpeechError(f"eSpeak NG failed ({error.returncode}): {''.join(last)}") from error
    except subprocess.TimeoutExpired as error:
        raise SpeechError(f"eSpeak NG did not answer within {PROCESS_SECONDS_MAX:.0f} s") from error
    spoken = [_at_16_khz(samples) for samples in _unpack(done.stdout)]
    if len(spoken) != len(utterances) or not all(samples.any() for samples in spoken):
        raise SpeechError(f"eSpeak NG spoke {len(spoken)} of {len(utterances)} sentences, or gave silence for some")
    return spoken


def _unpack(answer: bytes) -> Iterator[NDArray[np.int16]]:
    offset = 0
    while offset < len(answer):
        (count,) = struct.unpack_from("<I", answer, offset)
        yield np.frombuffer(answer, "<i2", count, offset + 4)
        offset += 4 + 2 * count


def _at_16_khz(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """Resample in float64, so that rounding to 16 bits gives the same numbers on every machine."""
    resampled = resample(samples.astype(np.float64), ESPEAK_RATE_HZ, RATE_HZ)
    return np.clip(np.rint(resampled), -32768, 32767).astype(np.int16)
