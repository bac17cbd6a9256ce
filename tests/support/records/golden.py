"""One example of every kind of record and of every wire message, with its bytes in version 1. The bytes never change.

All suites take their examples from here: ``RECORDS`` has an entry for each row of ``protocol.kinds``.
"""

import math
from typing import Final, NamedTuple

from tensorboard_sidecar.protocol.array import Array
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.kinds import kind_of
from tensorboard_sidecar.protocol.messages import (
    Audio,
    Boxes,
    Chart,
    Embedding,
    Event,
    Gap,
    Graph,
    GraphNode,
    Histogram,
    HParams,
    Images,
    Layout,
    Matrix,
    Mesh,
    Message,
    Overlay,
    Point,
    PrCurve,
    PrCurveRaw,
    RunEnd,
    RunStart,
    Scalars,
    SegmentHead,
    Tensor,
    TensorSummaries,
    TensorSummary,
    Text,
    Video,
)
from tensorboard_sidecar.protocol.record import Record
from tensorboard_sidecar.protocol.wire import Ack, Bye, Data, Findings, Hello, Nak, Reject, Welcome, WireMessage

WALL_TIME_NS: Final = 1_700_000_000_123_456_789


class GoldenRecord(NamedTuple):
    """A message, its place in a stream, and the payload of its frame."""

    message: Message
    sequence: int
    step: int
    span: int
    payload: bytes

    @property
    def record(self) -> Record:
        """The record, with the body as this program encodes it."""
        return Record(
            kind_of(self.message), self.sequence, self.step, WALL_TIME_NS, encode_body(self.message), self.span
        )


class GoldenWire(NamedTuple):
    """A wire message and its ZeroMQ frame."""

    message: WireMessage
    data: bytes


# The values -inf, -1.0, 0.0, 1.0, 1.0, 1.1, NaN.
SUMMARY: Final = TensorSummary(
    count=7,
    zeros=1,
    nans=1,
    positive_infinities=0,
    negative_infinities=1,
    minimum=-1.0,
    maximum=1.100000023841858,
    sum=2.100000023841858,
    sum_squares=4.210000052452088,
    mantissa_bits=3,
    indexes=Array("uint16", (2,), bytes.fromhex("f803 f80b")),
    counts=Array("uint64", (2,), bytes.fromhex("0300000000000000 0100000000000000")),
)

RECORDS: Final[dict[str, GoldenRecord]] = {
    "segment": GoldenRecord(
        SegmentHead(bytes(range(16)), "team/demo", 1, 2, 41),
        sequence=0,
        step=0,
        span=0,
        payload=bytes.fromhex(
            "010000000000000047000000000000000000000000000000000000000000000015cd853dfe9c971785a673747265616dc410"
            "000102030405060708090a0b0c0d0e0fa372756ea97465616d2f64656d6fa472616e6b01a7617474656d707402ae66697273"
            "745f73657175656e636529"
        ),
    ),
    "run_start": GoldenRecord(
        RunStart(7, {"lr": 0.5, "epochs": 2, "amp": True, "name": "é"}),
        sequence=1,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010100000100000036000000000000000100000000000000070000000000000015cd853dfe9c971782aa66697273745f7374"
            "657007a6636f6e66696784a26c72cb3fe0000000000000a665706f63687302a3616d70c3a46e616d65a2c3a9"
        ),
    ),
    "scalars": GoldenRecord(
        Scalars({"loss/total": 0.25, "loss/nan": math.inf}),
        sequence=2,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "01020000010000002f000000000000000200000000000000070000000000000015cd853dfe9c971781a676616c75657382aa"
            "6c6f73732f746f74616ccb3fd0000000000000a86c6f73732f6e616ecb7ff0000000000000"
        ),
    ),
    "tensor_summaries": GoldenRecord(
        TensorSummaries({"weights/a": SUMMARY}),
        sequence=3,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010300000100000005010000000000000300000000000000070000000000000015cd853dfe9c971781a973756d6d61726965"
            "7381a9776569676874732f618ca5636f756e7407a57a65726f7301a46e616e7301b3706f7369746976655f696e66696e6974"
            "69657300b36e656761746976655f696e66696e697469657301a76d696e696d756dcbbff0000000000000a76d6178696d756d"
            "cb3ff19999a0000000a373756dcb4000ccccd0000000ab73756d5f73717561726573cb4010d70a40f5c290ad6d616e746973"
            "73615f6269747303a7696e646578657383a56474797065a675696e743136a573686170659102a464617461c404f803f80ba6"
            "636f756e747383a56474797065a675696e743634a573686170659102a464617461c410030000000000000001000000000000"
            "00"
        ),
    ),
    "matrix": GoldenRecord(
        Matrix("sim", Array("float16", (1, 2), bytes.fromhex("003c 00bc")), "t", "r", "c", (-1.0, 1.0)),
        sequence=4,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010400000100000075000000000000000400000000000000070000000000000015cd853dfe9c971786a3746167a373696da6"
            "76616c75657383a56474797065a7666c6f61743136a57368617065920102a464617461c404003c00bca57469746c65a174a9"
            "726f775f6c6162656ca172ac636f6c756d6e5f6c6162656ca163ab76616c75655f72616e676592cbbff0000000000000cb3f"
            "f0000000000000"
        ),
    ),
    "images": GoldenRecord(
        Images("img", Array("uint8", (1, 1, 1, 3), bytes((255, 0, 1))), ["red"]),
        sequence=5,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010500000100000040000000000000000500000000000000070000000000000015cd853dfe9c971783a3746167a3696d67a6"
            "696d6167657383a56474797065a575696e7438a573686170659401010103a464617461c403ff0001a863617074696f6e7391"
            "a3726564"
        ),
    ),
    "text": GoldenRecord(
        Text("txt", "# ünï"),
        sequence=6,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010600000100000016000000000000000600000000000000070000000000000015cd853dfe9c971782a3746167a3747874a4"
            "74657874a72320c3bc6ec3af"
        ),
    ),
    "audio": GoldenRecord(
        Audio("say", [Array("int16", (2, 1), bytes.fromhex("0100 ffff"))], 16_000, ["hm"]),
        sequence=7,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010700000100000050000000000000000700000000000000070000000000000015cd853dfe9c971784a3746167a3736179a5"
            "636c6970739183a56474797065a5696e743136a57368617065920201a464617461c4040100ffffae73616d706c655f726174"
            "655f687acd3e80a863617074696f6e7391a2686d"
        ),
    ),
    "embedding": GoldenRecord(
        Embedding("emb", Array("float32", (1, 1), bytes.fromhex("0000803f")), ["word"], [["cat"]], None),
        sequence=8,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010800000100000059000000000000000800000000000000070000000000000015cd853dfe9c971785a3746167a3656d62a7"
            "766563746f727383a56474797065a7666c6f61743332a57368617065920101a464617461c4040000803fa7636f6c756d6e73"
            "91a4776f7264a4726f77739191a3636174aa7468756d626e61696c73c0"
        ),
    ),
    "graph": GoldenRecord(
        Graph([GraphNode("a/b", "Linear", ["in"], [[-1, 4]], {"bias": "no"})]),
        sequence=9,
        step=0,
        span=1,
        payload=bytes.fromhex(
            "010900000100000054000000000000000900000000000000000000000000000015cd853dfe9c971781a56e6f6465739185a4"
            "6e616d65a3612f62a96f7065726174696f6ea64c696e656172a6696e7075747391a2696ead6f75747075745f736861706573"
            "9192ff04aa6174747269627574657381a462696173a26e6f"
        ),
    ),
    "layout": GoldenRecord(
        Layout({"Loss": {"all": Chart("multiline", ["^loss/"])}}),
        sequence=10,
        step=0,
        span=1,
        payload=bytes.fromhex(
            "010a00000100000034000000000000000a00000000000000000000000000000015cd853dfe9c971781aa63617465676f7269"
            "657381a44c6f737381a3616c6c82a46b696e64a96d756c74696c696e65a47461677391a65e6c6f73732f"
        ),
    ),
    "hparams": GoldenRecord(
        HParams({"lr": 0.5}, {"best": 1.0}),
        sequence=11,
        step=2**53,
        span=1,
        payload=bytes.fromhex(
            "010b00000100000030000000000000000b00000000000000000000000000200015cd853dfe9c971782aa706172616d657465"
            "727381a26c72cb3fe0000000000000a76d65747269637381a462657374cb3ff0000000000000"
        ),
    ),
    "gap": GoldenRecord(
        Gap("the outbox was full", {"matrix": 3}),
        sequence=12,
        step=0,
        span=3,
        payload=bytes.fromhex(
            "010c0000030000002b000000000000000c00000000000000000000000000000015cd853dfe9c971782a6726561736f6eb374"
            "6865206f7574626f78207761732066756c6ca56b696e647381a66d617472697803"
        ),
    ),
    "run_end": GoldenRecord(
        RunEnd("completed"),
        sequence=15,
        step=8,
        span=1,
        payload=bytes.fromhex(
            "010d00000100000012000000000000000f00000000000000080000000000000015cd853dfe9c971781a6737461747573a963"
            "6f6d706c65746564"
        ),
    ),
    "point": GoldenRecord(
        Point("pt", 0.1, "double", "title", "**d**"),
        sequence=16,
        step=-1,
        span=1,
        payload=bytes.fromhex(
            "010e00000100000048000000000000001000000000000000ffffffffffffffff15cd853dfe9c971785a3746167a27074a576"
            "616c7565cb3fb999999999999aa4666f726da6646f75626c65ac646973706c61795f6e616d65a57469746c65ab6465736372"
            "697074696f6ea52a2a642a2a"
        ),
    ),
    "overlay": GoldenRecord(
        Overlay("loss", {"loss_train": 0.5, "loss_val": 1.5}),
        sequence=17,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "010f00000100000038000000000000001100000000000000070000000000000015cd853dfe9c971782a3746167a46c6f7373"
            "a676616c75657382aa6c6f73735f747261696ecb3fe0000000000000a86c6f73735f76616ccb3ff8000000000000"
        ),
    ),
    "event": GoldenRecord(
        Event(bytes.fromhex("2a0c 0a0a 0a03726177 150000003f"), "raw/sub"),
        sequence=18,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "011000000100000026000000000000001200000000000000070000000000000015cd853dfe9c971782a56576656e74c40e2a"
            "0c0a0a0a03726177150000003fa6666f6c646572a77261772f737562"
        ),
    ),
    "video": GoldenRecord(
        Video("vid", Array("uint8", (1, 2, 1, 1, 1), bytes((0, 255))), 2.5),
        sequence=19,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "01110000010000004d000000000000001300000000000000070000000000000015cd853dfe9c971783a3746167a3766964a6"
            "6672616d657383a56474797065a575696e7438a57368617065950102010101a464617461c40200ffb16672616d65735f7065"
            "725f7365636f6e64cb4004000000000000"
        ),
    ),
    "pr_curve": GoldenRecord(
        PrCurve(
            "pr",
            Array("uint8", (2,), bytes((0, 1))),
            Array("float32", (2,), bytes.fromhex("0000803e 0000403f")),
            3,
            Array("float32", (2,), bytes.fromhex("0000803f 00000040")),
        ),
        sequence=20,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "01120000010000009e000000000000001400000000000000070000000000000015cd853dfe9c971785a3746167a27072a66c"
            "6162656c7383a56474797065a575696e7438a573686170659102a464617461c4020001ab70726564696374696f6e7383a564"
            "74797065a7666c6f61743332a573686170659102a464617461c4080000803e0000403faf7468726573686f6c645f636f756e"
            "7403a77765696768747383a56474797065a7666c6f61743332a573686170659102a464617461c4080000803f00000040"
        ),
    ),
    "pr_curve_raw": GoldenRecord(
        PrCurveRaw("raw", Array("float32", (6, 1), bytes.fromhex("0000803f" * 6))),
        sequence=21,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "011300000100000045000000000000001500000000000000070000000000000015cd853dfe9c971782a3746167a3726177a4"
            "726f777383a56474797065a7666c6f61743332a57368617065920601a464617461c4180000803f0000803f0000803f000080"
            "3f0000803f0000803f"
        ),
    ),
    "mesh": GoldenRecord(
        Mesh(
            "mesh",
            Array("float32", (1, 3, 3), bytes.fromhex("0000803f 00000000 00000000" * 3)),
            Array("uint8", (1, 3, 3), bytes(range(9))),
            Array("int32", (1, 1, 3), bytes.fromhex("00000000 01000000 02000000")),
            '{"camera": {"cls": "PerspectiveCamera"}}',
        ),
        sequence=22,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "0114000001000000e6000000000000001600000000000000070000000000000015cd853dfe9c971785a3746167a46d657368"
            "a8766572746963657383a56474797065a7666c6f61743332a5736861706593010303a464617461c4240000803f0000000000"
            "0000000000803f00000000000000000000803f0000000000000000a6636f6c6f727383a56474797065a575696e7438a57368"
            "61706593010303a464617461c409000102030405060708a5666163657383a56474797065a5696e743332a573686170659301"
            "0103a464617461c40c000000000100000002000000a6636f6e666967d9287b2263616d657261223a207b22636c73223a2022"
            "506572737065637469766543616d657261227d7d"
        ),
    ),
    "boxes": GoldenRecord(
        Boxes(
            "box",
            Array("uint8", (2, 2, 1), bytes((0, 1, 2, 255))),
            Array("float32", (1, 4), bytes.fromhex("00000000 00000000 0000803f 0000803f")),
            ["cat"],
            2.0,
        ),
        sequence=23,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "011500000100000081000000000000001700000000000000070000000000000015cd853dfe9c971785a3746167a3626f78a5"
            "696d61676583a56474797065a575696e7438a5736861706593020201a464617461c404000102ffa5626f78657383a5647479"
            "7065a7666c6f61743332a57368617065920104a464617461c41000000000000000000000803f0000803fa66c6162656c7391"
            "a3636174a57363616c65cb4000000000000000"
        ),
    ),
    "histogram": GoldenRecord(
        Histogram(
            "his",
            0.0,
            1.0,
            3.0,
            1.5,
            1.25,
            Array("float64", (1,), bytes.fromhex("000000000000f03f")),
            Array("float64", (1,), bytes.fromhex("0000000000000840")),
        ),
        sequence=24,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "0116000001000000b6000000000000001800000000000000070000000000000015cd853dfe9c971788a3746167a3686973a7"
            "6d696e696d756dcb0000000000000000a76d6178696d756dcb3ff0000000000000a5636f756e74cb4008000000000000a373"
            "756dcb3ff8000000000000ab73756d5f73717561726573cb3ff4000000000000a66c696d69747383a56474797065a7666c6f"
            "61743634a573686170659101a464617461c408000000000000f03fa6636f756e747383a56474797065a7666c6f61743634a5"
            "73686170659101a464617461c4080000000000000840"
        ),
    ),
    "tensor": GoldenRecord(
        Tensor("ten", Array("int64", (1, 2), bytes.fromhex("0100000000000000 ffffffffffffffff"))),
        sequence=25,
        step=7,
        span=1,
        payload=bytes.fromhex(
            "01170000010000003d000000000000001900000000000000070000000000000015cd853dfe9c971782a3746167a374656ea6"
            "76616c75657383a56474797065a5696e743634a57368617065920102a464617461c4100100000000000000ffffffffffffff"
            "ff"
        ),
    ),
}

FINDING: Final = Finding(
    "loss-spike", "warn", "loss/train", "open", 400, 440, 5, 3.25, {"value": 6.5, "median": 2.0}, "Look at the batches."
)

WIRE: Final[dict[str, GoldenWire]] = {
    "hello": GoldenWire(
        Hello(bytes(range(16)), "team/demo", 1, 2, 41),
        bytes.fromhex(
            "010185a673747265616dc410000102030405060708090a0b0c0d0e0fa372756ea97465616d2f64656d6fa472616e6b01a761"
            "7474656d707402ad6e6578745f73657175656e636529"
        ),
    ),
    "welcome": GoldenWire(
        Welcome(41, 2**26),
        bytes.fromhex("010282ad6e6578745f73657175656e636529ac6372656469745f6279746573ce04000000"),
    ),
    "reject": GoldenWire(
        Reject("another trainer speaks for this stream", True),
        bytes.fromhex(
            "010382a6726561736f6ed926616e6f7468657220747261696e657220737065616b7320666f7220746869732073747265616d"
            "a57265747279c3"
        ),
    ),
    "data": GoldenWire(
        Data(memoryview(b"frames as they lie")),
        bytes.fromhex("01046672616d65732061732074686579206c6965"),
    ),
    "ack": GoldenWire(
        Ack(300, 2**26),
        bytes.fromhex("010582ad6e6578745f73657175656e6365cd012cac6372656469745f6279746573ce04000000"),
    ),
    "nak": GoldenWire(
        Nak(0),
        bytes.fromhex("010681ad6e6578745f73657175656e636500"),
    ),
    "bye": GoldenWire(
        Bye(),
        bytes.fromhex("010780"),
    ),
    "findings": GoldenWire(
        Findings([FINDING]),
        bytes.fromhex(
            "010881a866696e64696e6773918aa472756c65aa6c6f73732d7370696b65a87365766572697479a47761726ea3746167aa"
            "6c6f73732f747261696ea57374617465a46f70656eaa66697273745f73746570cd0190a96c6173745f73746570cd01b8a5"
            "636f756e7405a47065616bcb400a000000000000a865766964656e636582a576616c7565cb401a000000000000a66d6564"
            "69616ecb4000000000000000a6616476696365b44c6f6f6b2061742074686520626174636865732e"
        ),
    ),
}
