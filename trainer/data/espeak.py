"""Speak sentences with eSpeak NG: a small program of its own, and the only file that knows the C library.

eSpeak carries the state of its oscillators from one sentence into the next, and initialising it anew does not clear
it. So a sentence always sounds the same only in the same place after the same sentences: each batch is spoken by a
fresh process, which `speech` starts with this file as its program. It imports nothing of this project, so it starts
in a tenth of a second.

    stdin   JSON: a list of [text, voice, words a minute, pitch 0-99]
    stdout  for each: the number of samples (u32, little-endian), then the samples (i16, little-endian, 22,050 Hz)

Constants and signatures: `speak_lib.h` of eSpeak NG 1.52.
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
"""Some voices clip at 100."""

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The library, initialised; one a process. Raises RuntimeError where the library reports a failure."""

    def __init__(self) -> None:
        # The library keeps at most 160 characters of the path to its data: a relative one is always short enough.
        os.chdir(Path(espeakng_loader.get_data_path()).parent)
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        rate = self._library.espeak_Initialize(_AUDIO_OUTPUT_SYNCHRONOUS, 0, b".", _INITIALIZE_DONT_EXIT)
        if rate != RATE_HZ:
            raise RuntimeError(f"eSpeak NG did not start: expected the sample rate {RATE_HZ}, got {rate}")
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else the clock seeds the breath of some voices
        self._pieces: list[bytes] = []
        self._callback = _CALLBACK(self._receive)  # kept: the library only borrows it
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_SetParameter(_PARAMETER_VOLUME, _VOLUME_PERCENT, 0)

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> bytes:
        """Return the samples, i16 at `RATE_HZ`."""
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
        return 0  # go on

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status != 0:
            raise RuntimeError(f"eSpeak NG: {what} (status {status})")


def main() -> None:
    """Speak what stdin asks for."""
    requests = json.load(sys.stdin)
    espeak = Espeak()
    for text, voice, words_per_minute, pitch in requests:
        samples = espeak.speak(text, voice, words_per_minute, pitch)
        sys.stdout.buffer.write(struct.pack("<I", len(samples) // 2) + samples)


if __name__ == "__main__":
    main()
