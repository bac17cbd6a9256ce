"""Names of runs as people give them: TensorBoard shows each run, with both loaders and in each tab that names runs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch
from playwright.sync_api import sync_playwright
from support.running.tensorboard import Loader, TensorBoard, running_tensorboard
from system.test_browser import FLAGS

from tensorboard_sidecar import Telemetry
from tensorboard_sidecar.logger_service.projection.replay import replay

pytestmark = pytest.mark.system

NAMES = [
    *(
        "2026-01-01 10:00:00",
        "baseline+aug",
        "lr_0.001_" * 15,
        "./x",
        "/abs/path/x",
        "../up",
        "~/home",
        " ends ",
        "a//b",
    ),
    *(
        "C:\\runs\\x",
        "a b",
        "🦊",
        "日本語/実験",
        "a#b",
        "a%b",
        "a%20b",
        "a?b",
        "a&b=c",
        'a*b"c<d>e|f',
        "it's",
        "a\nb",
        "a\tb",
    ),
    *("rank-3", "attempt-0", "projector/x", "x.tfevents.1", "a~2Bb", ".hidden", "x" * 300, "/".join(["y" * 200] * 6)),
    *("/".join("abcdefghijklmnopqrstuvwxyz"), "a;b", "a=b,c=[1]", "$HOME`x`", "a\u202eb"),
]
SESSIONS = {
    "experimentName": "",
    "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"],
    "colParams": [],
    "startIndex": 0,
    "sliceSize": 1000,
}
# The projector's own page writes the run into its addresses as it is.
PROJECTOR_PAGE = """async runs => {
    const wrong = [];
    for (const run of runs) {
        const info = await fetch(`/data/plugin/projector/info?run=${run}`);
        const name = info.ok ? (await info.json()).embeddings[0].tensorName : "";
        for (const route of ["tensor", "metadata"]) {
            const answer = await fetch(`/data/plugin/projector/${route}?run=${run}&name=${name}`);
            if (!answer.ok) wrong.push([run, route, answer.status]);
        }
    }
    return wrong;
}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Record a run of each name and replay them; return the log directory and the runs as the client names them."""
    root, shown = tmp_path_factory.mktemp("names"), []
    for number, name in enumerate(NAMES):
        with Telemetry(name, endpoint=None, record=root / "recordings", strict=True) as telemetry:
            telemetry.scalars(1, {"number": number})
            telemetry.images(1, "picture", torch.zeros(1, 1, 2, 2))
            telemetry.hparams(1, {"number": number}, {"best": number})
            telemetry.embedding(1, "points", torch.rand(3, 2), metadata={"label": ["a", "b", "c"]})
            shown.append(telemetry.run)
    replay([root / "recordings"], root / "log")
    assert len(set(shown)) == len(NAMES)
    return root / "log", shown


@pytest.fixture(scope="module", params=["fast", "slow"])
def board(request: pytest.FixtureRequest, runs: tuple[Path, list[str]]) -> Iterator[TensorBoard]:
    logdir, shown = runs
    loader: Loader = request.param
    with running_tensorboard(logdir, logdir.parent / f"{loader}.log", loader) as board:
        board.wait_for(
            "all runs",
            lambda board: set(shown) <= {run for run, tags in board.get("plugin/scalars/tags").items() if tags},
        )
        yield board


def test_each_run_is_shown_with_its_values(board: TensorBoard, runs: tuple[Path, list[str]]) -> None:
    for number, run in enumerate(runs[1]):
        [[_, step, value]] = board.get("plugin/scalars/scalars", run=run, tag="number")
        assert (step, value) == (1, number), run
        assert len(board.get("plugin/images/images", run=run, tag="picture", sample=0)) == 1, run
        assert len(board.get("plugin/custom_scalars/scalars", run=run, tag="number")["tag_to_events"]) == 1, run
    assert set(runs[1]) <= set(board.get("plugin/projector/runs"))


def test_each_run_has_its_hyperparameters(board: TensorBoard, runs: tuple[Path, list[str]]) -> None:
    def ask(route: str, question: object) -> dict[str, list[dict[str, list[dict[str, str]]]]]:
        headers = {"Content-Type": "application/json"}
        request = Request(f"{board.address}/data/plugin/hparams/{route}", json.dumps(question).encode(), headers)
        with urlopen(request, timeout=30) as answer:
            found: dict[str, list[dict[str, list[dict[str, str]]]]] = json.load(answer)
            return found

    ask("experiment", {"experimentName": ""})
    groups = ask("session_groups", SESSIONS)["sessionGroups"]
    rows = [session["name"].rpartition("/") for group in groups for session in group["sessions"]]
    assert {run for run, _, row in rows if row.startswith("hparams-")} >= set(runs[1])


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed (Debian package chromium)")
def test_the_projector_finds_the_embedding_of_each_run(board: TensorBoard, runs: tuple[Path, list[str]]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page()
        page.goto(f"{board.address}/data/runs")
        assert page.evaluate(PROJECTOR_PAGE, runs[1]) == []
        browser.close()
