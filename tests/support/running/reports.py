"""Reports of tests, on their way from a worker of pytest-xdist to the process that prints them."""

from typing import Any


def sendable(report: Any) -> Any:
    """Return a serialised report with lone surrogates written as escapes: execnet cannot send them as they are."""
    match report:
        case str():
            return report.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {sendable(name): sendable(value) for name, value in report.items()}
        case list() | tuple():
            return type(report)(map(sendable, report))
    return report
