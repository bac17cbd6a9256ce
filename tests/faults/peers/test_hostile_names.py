"""Runs and tags with names that lead elsewhere, or nowhere: nothing is written outside of the logger's folders."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.harness.diary import Returned
from faults.harness.hostile import judge, served
from support.logger.peer import Peer, make_record
from support.records.events import load_folder
from support.records.recordings import make_embedding
from support.running.programs import LoggerProcess

from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.errors import ProtocolError
from tensorboard_sidecar.protocol.messages import Scalars, Text
from tensorboard_sidecar.protocol.names import check_run, check_tag
from tensorboard_sidecar.protocol.record import Kind
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Data, Hello, Reject, Welcome

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
LONG = [
    "x" * 10_000,
    "x/" * 5_000 + "x",
    "\N{SNOWMAN}" * 10_000,
    "a" * 256,
    "/".join("a" * 33),
    "/".join(["y" * 250] * 5),
]
SHOWN = ["2026-01-01 10:00:00", 'a*b?c"d<e>f', "x" * 255, "/".join("b" * 32), "/".join(["z" * 204] * 5), "a~2Bb"]
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
    "a/hparams-0a1b2c3d4e5f",
    "a/projector_config.pbtxt",
    "a/events.out.tfevents.9999999999.x",
    f"a/stream-0000-0000-{1:032x}/key-name",
    "-rf",
    "$(x)",
    "`x`",
    "a|b",
    "a\\..\\b",
    "a#b",
    "a&b=c",
    "a+b",
    "50%",
    "a'b",
]
NAMES = [*TRAVERSAL, *LONG, *ODD, *SHOWN, *(f"a{one}b" for one in CONTROL), *CONTROL]


class Cage:
    """A logger in a folder of its own; ``promised`` is what it has to keep."""

    def __init__(self, logger: LoggerProcess) -> None:
        self.logger = logger
        self.promised: list[Returned] = []

    def promise(self, stream: bytes, last: int, *, hostile: bool = False) -> None:
        """Note that the records of a stream up to ``last`` were acknowledged."""
        self.promised.append(Returned.up_to(stream, last, hostile=hostile))


@pytest.fixture
def cage(logger: LoggerProcess, tmp_path: Path) -> Iterator[Cage]:
    """Return a logger; in the folders around its own nothing may have changed at the end, and its own hold all."""
    logger.recordings, logger.logdir = (tmp_path / "cage" / "in" / "here" / name for name in ("recordings", "runs"))
    logger.start()
    before, cage = outside(tmp_path, logger), Cage(logger)
    yield cage
    cage.promised.append(served(logger))
    assert logger.stop() == 0
    assert outside(tmp_path, logger) == before
    assert "the projection ended" not in logger.log.read_text()
    judge(logger, cage.promised)


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


def test_runs_of_any_name(cage: Cage) -> None:
    refused = 0
    for number, run in enumerate(encodable(NAMES), 1):
        with Peer(cage.logger.endpoint, Stream("x")) as peer:
            answer = greet(peer, number, run)
            assert isinstance(answer, Welcome) == passes(run, check_run), run
            if isinstance(answer, Welcome):
                peer.send_records(1, 3)
                peer.wait_acked(3)
                cage.promise(number.to_bytes(16, "big"), 2)
            refused += isinstance(answer, Reject)
    assert refused > len(NAMES) // 2


def test_runs_that_lead_out_by_a_symbolic_link(cage: Cage, tmp_path: Path) -> None:
    """In the journal the peer is told; in the log directory nothing is written, and the others go on."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    logger = cage.logger
    (logger.recordings / "linked").symlink_to(elsewhere)
    (logger.logdir / "shown").symlink_to(elsewhere)
    with Peer(logger.endpoint, Stream("linked/x")) as peer:
        answer = peer.hello()
        if isinstance(answer, Welcome):  # nothing is made before something comes
            peer.send_records(1, 3)
            while not isinstance(answer := peer.receive(), Reject):
                pass
    with Peer(logger.endpoint, Stream("shown")) as peer:
        peer.deliver(11)
        cage.promise(peer.stream.id, 10)
    assert logger.stop() == 0
    assert not list(elsewhere.iterdir())
    assert "outside of" in logger.log.read_text()
    for link in (logger.recordings / "linked", logger.logdir / "shown"):
        link.unlink()
    elsewhere.rmdir()
    logger.start()  # which shows it where it belongs


def test_tags_of_any_name(cage: Cage) -> None:
    """Those that can be shown are titles; the others leave a record that says nothing."""
    tags = encodable(NAMES)
    with Peer(cage.logger.endpoint, Stream("tags")) as peer:
        peer.hello()
        said = enumerate((body for tag in tags for body in bodies(tag)), 1)
        for sequence, (kind, body) in said:
            peer.send(Data(memoryview(make_record(sequence, kind=kind, body=body))))
        peer.wait_acked(3 * len(tags) + 1)
        cage.promise(peer.stream.id, 3 * len(tags), hostile=True)
    assert cage.logger.stop() == 0
    shown = {value.tag for event in load_folder(cage.logger.logdir / "tags") for value in event.summary.value}
    assert {tag for tag in tags if passes(tag, check_tag)} <= shown
    cage.logger.start()


def bodies(tag: str) -> list[tuple[int, bytes]]:
    """Return a body of each kind whose tag becomes a title, or the name of a file."""
    return [
        (Kind.SCALARS, encode_body(Scalars({tag: 1.0}))),
        (Kind.TEXT, encode_body(Text(tag, tag))),
        (Kind.EMBEDDING, encode_body(make_embedding(tag, rows=3))),
    ]
