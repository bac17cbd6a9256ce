"""Tests that need several processes, started with torchrun as users start them."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def run_in_two_processes(tmp_path: Path, program: str, *arguments: Path) -> None:
    """Run a program under torchrun with the name ``placement``; the program makes the checks itself."""
    script = tmp_path / "program.py"
    script.write_text(
        "import torch\n"
        "from tensorboard_sidecar.trainer.distributed import average_gradients, check_agreement, gather\n"
        "from tensorboard_sidecar.trainer.distributed import process_group, read_placement\n"
        "from tensorboard_sidecar.trainer.settings import ConfigError\n"
        "placement = read_placement()\n" + program,
        encoding="utf-8",
    )
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run([*torchrun, script, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr


# Each case is a program of its own for both ranks; what it raises is the text of the file ``<case>.<rank>``.
CASES = {
    "average": """
def averaged(counts):
    parameters = [torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.zeros(3)),
                  torch.nn.Parameter(torch.zeros(1))]
    for number, parameter in enumerate(parameters[:2] if counts else ()):
        parameter.grad = torch.full_like(parameter, 10.0 * number + placement.rank)
    average_gradients(parameters, placement, counts=counts)
    return [parameter.grad.tolist() for parameter in parameters]

assert averaged(True) == [[[0.5, 0.5], [0.5, 0.5]], [10.5, 10.5, 10.5], [0.0]]
assert averaged(placement.rank == 0) == [[[0.0, 0.0], [0.0, 0.0]], [10.0, 10.0, 10.0], [0.0]]
assert averaged(False) == [[[0.0, 0.0], [0.0, 0.0]], [0.0, 0.0, 0.0], [0.0]]
""",
    "differ": """
assert gather(placement.rank, placement) == [0, 1]
check_agreement({"lr": 0.1, "weights": 7}, placement)
try:
    check_agreement({"lr": 0.1, "weights": placement.rank, "steps": placement.rank}, placement)
except ConfigError as error:
    assert "differ in weights, steps: give all of them the same" in str(error)
else:
    raise AssertionError
""",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run all cases in one start of two processes, most of whose time is the import of torch; return their folder."""
    folder = tmp_path_factory.mktemp("cases")
    run_in_two_processes(
        folder,
        f"""
import sys, traceback
from pathlib import Path
with process_group(placement, torch.device("cpu")):
    for name, case in {CASES!r}.items():
        try:
            exec(case, globals())
        except BaseException:
            said = traceback.format_exc()
        else:
            said = ""
        (Path(sys.argv[1]) / f"{{name}}.{{placement.rank}}").write_text(said)
""",
        folder,
    )
    return folder


def test_two_processes_average_their_gradients(results: Path) -> None:
    """Those that count: in the second exchange rank 1 has nothing, in the third neither."""
    assert [(results / f"average.{rank}").read_text() for rank in range(2)] == ["", ""]


def test_two_processes_find_out_that_they_differ(results: Path) -> None:
    assert [(results / f"differ.{rank}").read_text() for rank in range(2)] == ["", ""]


TRAINING = """
import io, sys
from dataclasses import replace
from pathlib import Path
import torchvision
from tensorboard_sidecar.trainer.settings import Config
from tensorboard_sidecar.trainer.data.flickr8k import read_flickr8k
from tensorboard_sidecar.trainer.interrupt import Interrupted, StopSignals
from tensorboard_sidecar.trainer.loop import train
from tensorboard_sidecar.trainer.progress import Progress
from tensorboard_sidecar import Telemetry

class StopAtStep(StopSignals):
    steps_left = 9 + placement.rank

    def check(self):
        self.steps_left -= 1
        if self.steps_left == 0:
            raise Interrupted(15)

def small(name, weights):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 5, stride=4), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    layers.fc = torch.nn.Linear(16, 1000)
    return layers

torchvision.models.get_model = small
folder = Path(sys.argv[1])
scenes = Path(sys.argv[2])
data = read_flickr8k(scenes)
names = sorted({pair.image_name for pair in data.train}, key=[pair.image_name for pair in data.train].index)
lost = set(names[1::2][:5])  # of the eight of rank 1, which makes them four batches of two
train_pairs = tuple(
    replace(pair, image=pair.image.with_name(f"gone_{pair.image_name}")) if pair.image_name in lost else pair
    for pair in data.train
)
config = Config(run="two", root_dir=scenes, savedir=folder, endpoint="none", record=folder / "recording",
                image_size=32, embed_dim=16, batch_size=2, epochs=1000, device="cpu")
output = io.StringIO()
record = folder / str(placement.rank)
with Telemetry("two", endpoint=None, record=record, strict=True, rank=placement.rank) as telemetry:
    try:
        train(config, replace(data, train=train_pairs), telemetry, progress=Progress(output), stop=StopAtStep(),
              placement=placement)
    except Interrupted:
        pass
    else:
        raise AssertionError
said = output.getvalue()
assert ("epoch    2/1000  step 8 " in said) is (placement.rank == 0), said
assert ("5 files unreadable, their pairs left out: gone_" in said) is (placement.rank == 0), said
"""


def test_two_processes_train_on_whatever_files_each_can_read_and_stop_as_one(scenes: Path, tmp_path: Path) -> None:
    """Rank 1 cannot read the pictures of some batches; then rank 0 is stopped a step before rank 1 looks up."""
    run_in_two_processes(tmp_path, TRAINING, tmp_path, scenes)
