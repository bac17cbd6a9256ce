"""Each tab of TensorBoard in headless Chromium, which must show the run's data."""

import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from support.running.job import RUN, Job
from support.running.tensorboard import TensorBoard, running_tensorboard

pytestmark = [
    pytest.mark.system,
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed (Debian package chromium)"),
]

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# A tab, and a text that appears when the tab has drawn the run's data.
TABS = (
    ("timeseries", "telemetry"),
    ("scalars", "alignment"),
    ("custom_scalars", "Training Progress"),
    ("images", "similarity"),
    ("audio", "samples/audio"),
    ("graphs", "image_encoder"),
    ("distributions", "gradients"),
    ("histograms", "gradients"),
    ("text", "run/config"),
    ("hparams", "hparam/best_val_loss"),
    ("projector", "Points:"),
)


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder for screenshots: the caller's choice, or a temporary folder."""
    chosen = os.environ.get("SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def shown(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TensorBoard]:
    with running_tensorboard(job.logger.logdir, tmp_path_factory.mktemp("browser") / "log") as tensorboard:
        tensorboard.wait_for("all", lambda tb: "hparam/best_val_loss" in tb.get("plugin/scalars/tags").get(RUN, {}))
        yield tensorboard


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        yield page
        browser.close()


@pytest.mark.parametrize(("tab", "text"), TABS, ids=[tab for tab, _ in TABS])
def test_tab_shows_the_run(page: Page, shown: TensorBoard, screenshots: Path, tab: str, text: str) -> None:
    page.goto(f"{shown.address}/#{tab}")
    page.reload()
    wait_for_text(page, text)
    page.wait_for_load_state("networkidle", timeout=60_000)
    picture = page.screenshot(path=screenshots / f"{tab}.png")
    assert not blank(picture)


def wait_for_text(page: Page, text: str) -> None:
    """Wait until a frame of the page contains a text, also in shadow roots (the projector is a separate frame)."""
    deadline = monotonic() + 60
    while not any(frame.get_by_text(text).count() for frame in page.frames):
        assert monotonic() < deadline, f"{page.url} does not show {text!r}"
        page.wait_for_timeout(200)


def blank(png: bytes) -> bool:
    """Tell whether the area below TensorBoard's header and right of its sidebar has a single colour."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("L"))[120:, 350:]
    return float(pixels.std()) < 2.0
