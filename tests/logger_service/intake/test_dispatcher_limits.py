"""What all streams together, and those of one key, may have."""

from pathlib import Path

from support.noted_logger import NotedLogger

from tensorboard_sidecar.logger_service.limits import CREDIT_TOTAL_BYTES, STREAMS_A_KEY_MAX
from tensorboard_sidecar.protocol.limits import BATCH_SIZE_MAX_BYTES, CREDIT_BYTES
from tensorboard_sidecar.protocol.stream import Stream
from tensorboard_sidecar.protocol.wire import Hello, Nak, Welcome, WireMessage, encode_wire


def hello(logger: NotedLogger, number: int, owner: str = "") -> WireMessage:
    """Have a new peer say HELLO for a new stream with the key ``owner``; return the answer."""
    stream, peer = Stream("demo", number), number.to_bytes(4, "big")
    message = encode_wire(Hello(stream.id, stream.run, stream.rank, 0, 1))
    logger.reception.handle(peer, message, logger.now, owner)
    return logger.network.sent[peer][-1]


def test_all_streams_together_have_one_credit(tmp_path: Path) -> None:
    logger = NotedLogger(tmp_path, streams_max=10_000)
    alone = CREDIT_TOTAL_BYTES // CREDIT_BYTES
    for number in range(1, 2 * alone + 1):
        assert hello(logger, number) == Welcome(1, min(CREDIT_BYTES, CREDIT_TOTAL_BYTES // number))
    for number in range(2 * alone + 1, 5000):
        answer = hello(logger, number)
    assert answer == Welcome(1, BATCH_SIZE_MAX_BYTES)


def test_one_key_has_so_many_streams_and_takes_none_of_anothers(tmp_path: Path) -> None:
    logger = NotedLogger(tmp_path, streams_max=2 * STREAMS_A_KEY_MAX)
    hello(logger, 0, "other")
    for number in range(1, STREAMS_A_KEY_MAX + 2):
        hello(logger, number, "greedy")
    assert logger.reception.streams == STREAMS_A_KEY_MAX + 1

    def asked_for_hello(number: int, owner: str) -> bool:
        peer = number.to_bytes(4, "big")
        logger.now += 2.0
        before = len(logger.network.sent[peer])
        logger.reception.handle(peer, b"\x01\x04", logger.now, owner)  # DATA without a record
        return logger.network.sent[peer][before:] == [Nak(0)]

    assert asked_for_hello(1, "greedy"), "its own first stream had to go"
    assert not asked_for_hello(2, "greedy")
    assert not asked_for_hello(0, "other")
