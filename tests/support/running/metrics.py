"""A logger's metrics, read from its health page."""

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from support.machine.waiting import wait_until
from support.running.programs import LoggerProcess, free_port

_PREFIX = "tensorboard_sidecar_"


def count(logger: LoggerProcess) -> None:
    """Enable the health page of a logger that is not started yet."""
    logger.health = f"127.0.0.1:{free_port()}"


def read_counts(logger: LoggerProcess) -> dict[str, float]:
    """Return the samples without labels by name, without the common prefix."""
    with urlopen(f"http://{logger.health}/metrics", timeout=30) as page:
        families = list(text_string_to_metric_families(page.read().decode()))
    samples = [sample for family in families for sample in family.samples if not sample.labels]
    return {sample.name.removeprefix(_PREFIX).removesuffix("_total"): sample.value for sample in samples}


def wait_for_count(logger: LoggerProcess, name: str, value: float) -> None:
    """Wait until a metric has a value; the page lags by a second."""
    try:
        wait_until(lambda: read_counts(logger)[name] == value, seconds=30)
    except TimeoutError:
        raise AssertionError(f"{name} is {read_counts(logger)[name]}, not {value}") from None
