"""TensorBoard's HTTP API, as far as a probe needs it: which folder it shows, and the points of one curve."""

import json
from http import HTTPStatus
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

_ANSWER_SECONDS: Final = 10.0
# The list of all tags of a large log directory has some megabytes.
_ANSWER_SIZE_MAX_BYTES: Final = 2**26


class NoTensorBoard(Exception):
    """What answers is no TensorBoard; or what answers is unusable."""


class TensorBoard:
    """The TensorBoard at ``url``. Raises ValueError for a URL that is not http or https.

    The methods raise OSError when nothing answers, and NoTensorBoard for an answer that TensorBoard does not give.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--tensorboard {url}: expected something like http://localhost:6006")
        self.url = url.rstrip("/")
        self._opener = build_opener(ProxyHandler({}))  # TensorBoard is on this machine, or in this network

    def data_location(self) -> str:
        """Return the folder that TensorBoard shows, as it was named to it."""
        environment = self._get("environment")
        if not isinstance(environment, dict) or "data_location" not in environment:
            raise NoTensorBoard(f"{self.url} answers, but is no TensorBoard")
        return str(environment["data_location"])

    def find_point(self, run: str, tag: str, value: float) -> bool:
        """Tell whether a curve ``tag`` of ``run`` has the point; the run may lie deeper in TensorBoard's folder."""
        tags = self._get("plugin/scalars/tags")
        if not isinstance(tags, dict):
            raise NoTensorBoard(f"{self.url} has no scalars plugin")
        for name, known in tags.items():
            if (name == run or name.endswith(f"/{run}")) and isinstance(known, dict) and tag in known:
                points = self._get("plugin/scalars/scalars", run=name, tag=tag)
                if isinstance(points, list) and any(isinstance(point, list) and value in point for point in points):
                    return True
        return False

    def _get(self, route: str, **query: str) -> Any:
        """Return the JSON of a route, None where there is nothing yet."""
        address = f"{self.url}/data/{route}{'?' if query else ''}{urlencode(query)}"
        try:
            with self._opener.open(address, timeout=_ANSWER_SECONDS) as answer:
                body = answer.read(_ANSWER_SIZE_MAX_BYTES + 1)
        except HTTPError as error:
            with error:
                if error.code in (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST) and query:
                    return None
            raise NoTensorBoard(f"{self.url} answers {error.code} {error.reason}; it is no TensorBoard") from None
        try:
            return json.loads(body[:_ANSWER_SIZE_MAX_BYTES])
        except ValueError:
            raise NoTensorBoard(f"{self.url} answers, but is no TensorBoard") from None
