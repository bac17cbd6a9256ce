import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import espeakng_loader

from tensorboard_sidecar.trainer.data import espeak

PROGRAM = Path(espeak.__file__)


def _run(requests: object, program: Path = PROGRAM) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-P", str(program)]
    return subprocess.run(command, input=json.dumps(requests).encode(), capture_output=True, check=False)


def test_the_program_answers_with_a_count_and_samples_for_each_sentence() -> None:
    done = _run([["One ring.", "en-us", 200, 50], ["Two rings.", "en-us+f2", 180, 60]])
    assert done.returncode == 0, done.stderr
    answer, sentences = done.stdout, 0
    while answer:
        (count,) = struct.unpack_from("<I", answer)
        assert count > espeak.RATE_HZ // 4
        assert len(answer) >= 4 + 2 * count
        answer, sentences = answer[4 + 2 * count :], sentences + 1
    assert sentences == 2


def test_breathy_voices_are_not_seeded_by_the_clock() -> None:
    """Said again until another second has begun, for the library would take its seed in seconds."""
    request = [["A large green star.", "en-us+f2", 200, 50]]
    second = int(time.time())
    answers = {_run(request).stdout}
    while int(time.time()) <= second + 1:
        answers.add(_run(request).stdout)
    assert len(answers) == 1


def test_the_program_imports_nothing_of_this_project() -> None:
    """The program starts for every batch; an import of torch would take seconds each time."""
    loaded = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", str(PROGRAM)], input=b"[]", capture_output=True, check=True
    ).stderr.decode()
    assert "espeakng_loader" in loaded
    assert not {"torch", "numpy", "tensorboard_sidecar"} & {
        line.rpartition("|")[2].strip() for line in loaded.splitlines()
    }


def test_a_long_path_to_the_voices_is_no_obstacle(tmp_path: Path) -> None:
    """The library truncates its path at 160 characters."""
    package = tmp_path / ("d" * 100) / ("e" * 100) / "espeakng_loader"
    package.mkdir(parents=True)
    for part in Path(espeakng_loader.__file__).parent.iterdir():
        (package / part.name).symlink_to(part)
    program = package.parent / "espeak.py"
    program.write_text(PROGRAM.read_text())
    done = subprocess.run(
        [sys.executable, str(program)],
        input=json.dumps([["One ring.", "en-us", 200, 50]]).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 1000
