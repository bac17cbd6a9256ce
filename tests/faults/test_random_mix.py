"""Whatever can go wrong goes wrong, in any order, again and again: ``make soak`` does it for half an hour."""

import os
import signal
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Any

from faults.harness import disk_shim
from faults.harness.effort import SOAK_MINUTES, SOAKING
from faults.harness.oracle import Verdict, check
from faults.harness.trainers import Trainer, Trainers
from support.logger.proxy import ANSWERS_LOST, BLACK_HOLE, FAIR, RESETS, TRICKLE, Proxy
from support.machine.shared_folder import shared_folder
from support.running.programs import LoggerProcess

# The mix is judged, and begun anew in empty folders, after each round.
ROUND_SECONDS = 60.0 if SOAKING else 8.0
MIX_SECONDS = 60.0 * SOAK_MINUTES if SOAKING else ROUND_SECONDS
TRAINERS_MAX = 4
WEATHERS = (FAIR, FAIR, RESETS, BLACK_HOLE, ANSWERS_LOST, TRICKLE)
# A process that was stopped has calls that took as long.
STOPPED_MAX_SECONDS = 3.0
# Small enough to spill when the logger is away, large enough that nothing is refused.
OPTIONS = {"outbox_bytes": 2**20, "drain_seconds": 120.0}
# Matrices of 128 KiB fill it at once; the disk behind it is full now and then.
MUCH = {"matrix_every": 100, "matrix_side": 256, "may_refuse": True}
REWIND = 100


class Mix:
    """A logger, trainers, their disks, and the network between them; ``step`` breaks or mends one of them."""

    def __init__(self, folder: Path, logger: LoggerProcess, trainers: Trainers, proxy: Proxy, chance: Random) -> None:
        self.logger, self.trainers, self.proxy, self.chance = logger, trainers, proxy, chance
        self.running: list[Trainer] = []
        self.dead: list[Trainer] = []
        self.runs = 0
        self.done: dict[str, int] = {}
        self.spill, self.signs = folder / "spill", sick_signs(folder)

    def step(self) -> None:
        """Do one thing."""
        kinds = [
            (4, self.begin_trainer),
            (3, self.kill_trainer),
            (1, self.finish_trainer),
            (3, self.kill_logger),
            (1, self.stop_logger),
            (2, self.kill_both),
            (2, self.freeze),
            (4, self.change_weather),
            (2, self.fill_or_free_a_disk),
        ]
        [kind] = self.chance.choices([what for _, what in kinds], [weight for weight, _ in kinds])
        self.done[kind.__name__] = self.done.get(kind.__name__, 0) + 1
        kind()
        sleep(self.chance.uniform(0.0, 0.5))

    def begin_trainer(self) -> None:
        """Start a trainer, of a new run or of one whose trainer was killed, unless there are enough."""
        if len(self.running) >= TRAINERS_MAX:
            return
        plan: dict[str, Any] = {"interval_seconds": 0.002, "options": dict(OPTIONS)}
        if self.chance.random() < 0.3:
            disk = {"root": str(self.spill), "sick_while": str(self.signs[1]), "error": "ENOSPC"}
            plan |= {"disk": disk, **MUCH}
        if self.dead and self.chance.random() < 0.5:
            before = self.dead.pop(self.chance.randrange(len(self.dead)))
            plan["options"]["attempt"] = before.plan.options.get("attempt", 0) + 1
            plan["first_step"] = max(0, before.plan.first_step + before.last_returned - REWIND)
            run = before.plan.run
        else:
            self.runs += 1
            run = f"mix/{self.runs}"
        plan["options"]["spill_dir"] = str(self.spill)
        endpoint = self.chance.choice([self.proxy.endpoint, self.logger.endpoint])
        self.running.append(self.trainers.start(run, endpoint, **plan))

    def kill_trainer(self) -> None:
        """Kill one; what it leaves is adopted by the next, or drained at the end."""
        if self.running:
            self.dead.append(self.running.pop(self.chance.randrange(len(self.running))))
            self.dead[-1].kill()

    def finish_trainer(self) -> None:
        """Have one end in order, whenever it can."""
        if self.running:
            self.running.pop(self.chance.randrange(len(self.running))).tell_to_stop()

    def kill_logger(self) -> None:
        """Kill the logger; another takes its place, now or later."""
        self.logger.kill()
        sleep(self.chance.choice([0.0, 0.0, 1.0]))
        self.logger.start()

    def stop_logger(self) -> None:
        """Have the logger end in order, and another take its place; not on a full disk, where it cannot."""
        self.signs[0].unlink(missing_ok=True)
        assert self.logger.stop() == 0
        self.logger.start()

    def kill_both(self) -> None:
        """Kill a trainer and the logger at once."""
        assert self.logger.process is not None
        self.logger.process.kill()
        self.kill_trainer()
        self.logger.process.wait()
        self.logger.start()

    def freeze(self) -> None:
        """Stop a process for a while."""
        assert self.logger.process is not None
        pids = [self.logger.process.pid, *(trainer.process.pid for trainer in self.running)]
        pid = self.chance.choice([pid for pid in pids if pid is not None])
        os.kill(pid, signal.SIGSTOP)
        sleep(self.chance.uniform(0.0, STOPPED_MAX_SECONDS))
        os.kill(pid, signal.SIGCONT)

    def change_weather(self) -> None:
        """Make the network another one."""
        self.proxy.weather = self.chance.choice(WEATHERS)

    def fill_or_free_a_disk(self) -> None:
        """Fill the logger's disks, or the one that trainers with much to say go on to, or free it again."""
        sign = self.chance.choice(self.signs)
        if sign.exists():
            sign.unlink()
        else:
            sign.touch()

    def end(self) -> None:
        """Mend everything, and have all that was promised shipped."""
        self.proxy.weather = FAIR
        for sign in self.signs:
            sign.unlink(missing_ok=True)
        for trainer in self.trainers.started:
            if trainer.process.is_alive():
                assert trainer.finish() == 0, f"trainer {trainer.plan.run} does not end"
        self.trainers.drain(self.logger.endpoint)
        assert self.logger.stop() == 0

    def judge(self) -> Verdict:
        """Ask the oracle."""
        return check(
            self.trainers.returned,
            self.logger.recordings,
            self.logger.logdir,
            call_max_seconds=STOPPED_MAX_SECONDS + 1,
        )


def sick_signs(folder: Path) -> tuple[Path, Path]:
    """Return the files that say that the logger's disks are full, and the trainers'."""
    return folder / "logger.sick", folder / "trainers.sick"


def play(folder: Path, chance: Random) -> None:
    """Play one round in an empty folder, and judge it."""
    with shared_folder() as memory:
        logger, trainers = LoggerProcess(folder), Trainers(memory, folder / "diaries")
        disk = disk_shim.Plan(str(logger.recordings), sick_while=str(sick_signs(folder)[0]), error="ENOSPC")
        logger.program = disk.command()
        if chance.random() < 0.5:  # else trainers adopt what others left, or nobody until the end
            logger.adopt = str(memory)
        logger.start()
        try:
            with Proxy(logger.port, chance) as proxy:
                mix = Mix(folder, logger, trainers, proxy, chance)
                deadline = monotonic() + ROUND_SECONDS
                mix.begin_trainer()
                while monotonic() < deadline:
                    mix.step()
                mix.end()
            print(mix.judge(), mix.done)
        finally:
            trainers.close()
            if logger.process is not None and logger.process.poll() is None:
                logger.kill()


def test_a_random_mix_of_all_of_it(tmp_path: Path, chance: Random) -> None:
    began, number = monotonic(), 0
    while number == 0 or monotonic() - began < MIX_SECONDS - ROUND_SECONDS / 2:
        folder = tmp_path / str(number)
        folder.mkdir()
        play(folder, chance)
        number += 1
