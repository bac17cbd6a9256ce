"""Runs and tags with names that lead elsewhere, or nowhere: nothing is written outside of the logger's folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.hostile import served
from support.events import load_folder
from support.peer import Peer, make_record
from support.programs import LoggerProcess
from support.recordings import make_embedding

from protocol.codec import encode_body
from protocol.errors import ProtocolError
from protocol.messages import Scalars, Text
from protocol.names import check_run, check_tag
from protocol.record import Kind
from protocol.stream import Stream
from protocol.wire import Data, Hello, Reject, Welcome

CONTROL = [chr(number) for number in (*range(32), 0x7F, 0x85, 0x9B)]
TRAVERSAL = [
    *(
        "../x",
        "..",
        ".",
        "a/../../x",
        "/etc/passwd",
        "//x",
        "a//b",
        "a/",
        "/",
        "~",
        "~root/x",
        "..\\x",
        "C:\\x",
        "\\\\x\\y",
    ),
    *("....//x", "..%2fx", "%2e%2e/x", "a/./b", "..;/x", "file:///x", "\uff0e\uff0e/x", "\u2024\u2024/x", "a/.hidden"),
]
LONG = ["x" * 10_000, "x/" * 5_000 + "x", "\N{SNOWMAN}" * 10_000, "a" * 121, "/".join("abcdefghi")]
ODD = [
    "",
    " ",
    "a ",
    "\u202egnp",
    "\u2066a",
    "\ud800",
    "a\ud800b",
    "rank-1",
    "projector",
    "a/attempt-0",
    "a/projector_config.pbtxt",
    "a/events.out.tfevents.9999999999.x",
    f"a/stream-0000-0000-{1:032x}/key-name",
    "-rf",
    "$(x)",
    "`x`",
    "a|b",
    "a'b",
]
NAMES = [*TRAVERSAL, *LONG, *ODD, *(f"a{one}b" for one in CONTROL), *CONTROL]


@pytest.fixture
def cage(logger: LoggerProcess, tmp_path: Path) -> Iterator[LoggerProcess]:
    """Return a logger; in the folders around its own nothing may have changed at the end."""
    logger.recordings, logger.logdir = (tmp_path / "cage" / "in" / "here" / name for name in ("recordings", "runs"))
    logger.start()
    before = outside(tmp_path, logger)
    yield logger
    served(logger)
    assert logger.stop() == 0
    assert outside(tmp_path, logger) == before
    assert "the projection ended" not in logger.log.read_text()


def outside(root: Path, logger: LoggerProcess) -> set[Path]:
    """Return every path below ``root`` but those in the logger's folders."""
    own = (logger.recordings, logger.logdir)
    return {path for path in root.rglob("*") if not any(folder in path.parents for folder in own)}


def passes(name: str, check: object) -> bool:
    try:
        return bool(callable(check) and check(name))
    except (ProtocolError, UnicodeError):
        return False


def greet(peer: Peer, number: int, run: str) -> Welcome | Reject:
    peer.send(Hello(number.to_bytes(16, "big"), run, 0, 0, 1))
    while not isinstance(answer := peer.receive(), Welcome | Reject):
        pass
    return answer


def encodable(names: list[str]) -> list[str]:
    """Return the names that msgpack can say at all."""
    return [name for name in names if not any("\ud800" <= one <= "\udfff" for one in name)]


def test_runs_of_any_name(cage: LoggerProcess) -> None:
    refused = 0
    for number, run in enumerate(encodable(NAMES), 1):
        with Peer(cage.endpoint, Stream("x")) as peer:
            answer = greet(peer, number, run)
            assert isinstance(answer, Welcome) == passes(run, check_run), run
            if isinstance(answer, Welcome):
                peer.send_records(1, 3)
                peer.wait_acked(3)
            refused += isinstance(answer, Reject)
    assert refused > len(NAMES) // 2


def test_runs_that_lead_out_by_a_symbolic_link(cage: LoggerProcess, tmp_path: Path) -> None:
    """In the journal the peer is told; in the log directory nothing is written, and the others go on."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (cage.recordings / "linked").symlink_to(elsewhere)
    (cage.logdir / "shown").symlink_to(elsewhere)
    with Peer(cage.endpoint, Stream("linked/x")) as peer:
        answer = peer.hello()
        if isinstance(answer, Welcome):  # nothing is made before something comes
            peer.send_records(1, 3)
            while not isinstance(answer := peer.receive(), Reject):
                pass
    with Peer(cage.endpoint, Stream("shown")) as peer:
        peer.deliver(11)
    assert cage.stop() == 0
    assert not list(elsewhere.iterdir())
    assert "outside of" in cage.log.read_text()
    for link in (cage.recordings / "linked", cage.logdir / "shown"):
        link.unlink()
    elsewhere.rmdir()
    cage.start()


def test_tags_of_any_name(cage: LoggerProcess) -> None:
    """Those that can be shown are titles; the others leave a record that says nothing."""
    tags = encodable(NAMES)
    with Peer(cage.endpoint, Stream("tags")) as peer:
        peer.hello()
        said = enumerate((body for tag in tags for body in bodies(tag)), 1)
        for sequence, (kind, body) in said:
            peer.send(Data(memoryview(make_record(sequence, kind=kind, body=body))))
        peer.wait_acked(3 * len(tags) + 1)
    assert cage.stop() == 0
    shown = {value.tag for event in load_folder(cage.logdir / "tags") for value in event.summary.value}
    assert {tag for tag in tags if passes(tag, check_tag)} <= shown
    cage.start()


def bodies(tag: str) -> list[tuple[int, bytes]]:
    """Return a body of each kind whose tag becomes a title, or the name of a file."""
    return [
        (Kind.SCALARS, encode_body(Scalars({tag: 1.0}))),
        (Kind.TEXT, encode_body(Text(tag, tag))),
        (Kind.EMBEDDING, encode_body(make_embedding(tag, rows=3))),
    ]
