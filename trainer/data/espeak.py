"""A program that speaks sentences with eSpeak NG; the only module that calls the C library.

eSpeak carries the state of its oscillators from a sentence to the next, and a second initialization does not clear that
state. The samples of a sentence therefore depend on all sentences before in the process. For reproducible samples,
``speech`` starts this file as a fresh process for each batch. The file imports nothing of this project, so that the
process starts in a tenth of a second.

    stdin   JSON: a list of [text, voice, words a minute, pitch 0-99]
    stdout  for each: the number of samples (u32, little-endian), then the samples (i16, little-endian, 22,050 Hz)

Constants and signatures: ``speak_lib.h`` of eSpeak NG 1.52.
"""

import ctypes
import json
import os
import struct
import sys
from pathlib import Path
from typing import Final

import espeakng_loader

RATE_HZ: Final = 22_050

_AUDIO_OUTPUT_SYNCHRONOUS: Final = 2
_INITIALIZE_DONT_EXIT: Final = 0x8000
_PARAMETER_RATE: Final = 1
_PARAMETER_VOLUME: Final = 2
_PARAMETER_PITCH: Final = 3
_CHARS_UTF8: Final = 1
_VOLUME_PERCENT: Final = 80
"""At 100, some voices clip."""

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The initialized library; make only one in a process. Raises RuntimeError when the library reports a failure."""

    def __init__(self) -> None:
        # The library truncates the path to its data at 160 characters; a relative path is always shorter.
        os.chdir(Path(espeakng_loader.get_data_path()).parent)
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, b".", _INITIALIZE_DONT_EXIT)
        if rate != RATE_HZ:
            raise RuntimeError(f"eSpeak NG did not start: expected the sample rate {RATE_HZ}, got {rate}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # otherwise the clock seeds the noise of some voices
        self._pieces: list[bytes] = []
        self._callback = _CALLBACK(self._receive)  # kept alive: the library holds no reference
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_SetParameter(_PARAMETER_VOLUME, _VOLUME_PERCENT, 0)

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> bytes:
        """Return the samples of a sentence, int16 at ``RATE_HZ``."""
        self._pieces.clear()
        self._check(self._library.espeak_SetVoiceByName(voice.encode()), f"no voice {voice!r}")
        self._library.espeak_SetParameter(_PARAMETER_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        raw = text.encode()
        size = ctypes.c_size_t(len(raw) + 1)
        spoken = self._library.espeak_Synth(raw, size, 0, 0, 0, _CHARS_UTF8, None, None)
        self._check(spoken, f"cannot speak {text!r}")
        return b"".join(self._pieces)

    def _receive(self, samples: int | None, count: int, _events: int | None) -> int:
        if samples and count > 0:
            self._pieces.append(ctypes.string_at(samples, 2 * count))
        return 0  # 0: continue

    @staticmethod
    def _check(status: int, problem: str) -> None:
        if status != 0:
            raise RuntimeError(f"eSpeak NG: {problem} (status {status})")


def main() -> None:
    """Speak the sentences from stdin."""
    requests = json.load(sys.stdin)
    espeak = Espeak()
    for text, voice, words_per_minute, pitch in requests:
        samples = espeak.speak(text, voice, words_per_minute, pitch)
        sys.stdout.buffer.write(struct.pack("<I", len(samples) // 2) + samples)


if __name__ == "__main__":
    main()
