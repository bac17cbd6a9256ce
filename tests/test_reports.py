from typing import Any

import pytest
from support.running.reports import sendable


def test_lone_surrogates_are_escaped_wherever_they_are() -> None:
    """Regression: one failed test with such a text in its report ended the whole run with an internal error."""
    report: dict[str, Any] = {
        "nodeid": "test[\udcff]",
        "sections": [("log", "a\ud800b")],
        "duration": 0.5,
        "none": None,
    }
    expected = {"nodeid": "test[\\udcff]", "sections": [("log", "a\\ud800b")], "duration": 0.5, "none": None}
    assert sendable(report) == expected


def test_reports_of_workers_are_made_sendable(request: pytest.FixtureRequest) -> None:
    report = pytest.TestReport("test", ("file", 1, "test"), {}, "failed", "text \udcff", "call")
    data = request.config.hook.pytest_report_to_serializable(config=request.config, report=report)
    assert data["longrepr"] == "text \\udcff"
