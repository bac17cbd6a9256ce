"""The specification agrees with the code: every kind, field, default, limit, and the bytes of a whole segment."""

import re
from pathlib import Path
from types import ModuleType, NoneType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
import pytest

from tensorboard_sidecar.logger_service import limits as logger_limits
from tensorboard_sidecar.protocol import limits, wire
from tensorboard_sidecar.protocol.array import DTYPES, Array
from tensorboard_sidecar.protocol.codec import encode_body
from tensorboard_sidecar.protocol.finding import Finding
from tensorboard_sidecar.protocol.frame import masked_crc, pack_frame
from tensorboard_sidecar.protocol.kinds import KINDS, kind_of
from tensorboard_sidecar.protocol.messages import (
    Chart,
    GraphNode,
    Message,
    ParameterValue,
    RunEnd,
    RunStart,
    Scalars,
    TensorSummary,
)
from tensorboard_sidecar.protocol.record import HEADER, HEADER_SIZE_BYTES, RECORD_VERSION, Kind, Record, pack_record
from tensorboard_sidecar.protocol.storage.recording_reader import RecordingReader
from tensorboard_sidecar.protocol.storage.segment import SEGMENT_HEAD_MAX_BYTES, pack_segment_head, segment_path
from tensorboard_sidecar.protocol.stream import Stream

PAGE: Final = (Path(__file__).parents[2] / "protocol" / "SPEC.md").read_text("utf-8")
WALL_TIME_NS: Final = 1_700_000_000_000_000_000
STRUCTS: Final[dict[str, type[msgspec.Struct]]] = {
    "### Array": Array,
    "#### TensorSummary": TensorSummary,
    "#### GraphNode": GraphNode,
    "#### Chart": Chart,
    "#### Finding": Finding,
    **{f"### {row.kind.value} {row.kind.name}": row.message_type for row in KINDS},
    **{
        f"### {number} {message_type.__name__.upper()}": message_type
        for number, message_type in enumerate(wire._TYPES, 1)
        if message_type is not wire.Data
    },
}


def section(heading: str) -> str:
    """Return the text below a heading, up to the next heading."""
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"SPEC.md has no heading {heading!r}"
    return found[1]


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def type_name(annotation: Any) -> str:
    """Return a Python type in the notation of the tables."""
    arguments = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            return type_name(arguments[0])
        case origin if origin is Literal:
            return "str"
        case origin if origin is list or origin is tuple:
            return f"[{type_name(arguments[0])}]"
        case origin if origin is dict:
            return f"{{{type_name(arguments[0])}: {type_name(arguments[1])}}}"
    if annotation == ParameterValue:
        return "parameter"
    if get_origin(annotation) is Union or NoneType in arguments:
        return f"{type_name(arguments[0])} or nil"
    return str(annotation.__name__)


def default_name(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    return {"None": "nil", "": '""'}.get(str(default), str(default))


@pytest.mark.parametrize("heading", STRUCTS)
def test_every_field_is_in_its_table_in_order_with_type_and_default(heading: str) -> None:
    fields = msgspec.structs.fields(STRUCTS[heading])
    expected = [[field.encode_name, type_name(field.type), default_name(field)] for field in fields]
    assert [row[:3] for row in table(heading)] == expected


def test_every_kind_and_wire_message_has_a_section_and_no_other_has() -> None:
    headings = re.findall(r"^### (\d+) ([A-Z_]+)$", PAGE, re.MULTILINE)
    kinds = [(str(kind.value), kind.name) for kind in Kind]
    messages = [(str(number), message.__name__.upper()) for number, message in enumerate(wire._TYPES, 1)]
    assert headings == kinds + messages
    assert f"one of [{len(kinds)} kinds](#kinds)" in PAGE


def test_every_literal_is_named() -> None:
    for heading, struct in STRUCTS.items():
        for field in msgspec.structs.fields(struct):
            if get_origin(field.type) is Literal:
                assert all(f"`{value}`" in section(heading) for value in get_args(field.type)), (
                    f"{heading}: {field.name}"
                )
    assert " ".join(f"`{name}`" for name in DTYPES) in section("### Array")


@pytest.mark.parametrize(
    ("heading", "module"), [("## Limits", limits), ("### Limits of the logger", logger_limits)], ids=["both", "logger"]
)
def test_every_limit_is_on_the_page_with_its_value(heading: str, module: ModuleType) -> None:
    imported = set() if module is limits else set(vars(limits))
    expected = [[name, f"{n:,}"] for name, n in vars(module).items() if name.isupper() and name not in imported]
    assert [row[:2] for row in table(heading)] == expected
    for name, _ in expected:
        assert PAGE.count(f"`{name}`") > 1, f"{name} is in the table, and no text says what the limit bounds"


def test_every_name_of_a_limit_on_the_page_exists() -> None:
    names = set(re.findall(r"`([A-Z_]+_(?:MAX|DIVISOR)(?:_[A-Z]+)?)`", PAGE))
    assert names <= set(vars(limits)) | set(vars(logger_limits))


def test_the_header_is_laid_out_as_the_page_says() -> None:
    codes = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q"}
    *rows, body = table("## Records")
    assert "<" + "".join(codes[row[1]] for row in rows) == HEADER.format
    offset = 0
    for row in rows:
        assert int(row[0]) == offset
        offset += int(row[1][1:]) // 8
    assert (int(body[0]), body[2]) == (offset, "body")
    assert offset == HEADER_SIZE_BYTES
    assert rows[0][3] == str(RECORD_VERSION) == str(wire.WIRE_VERSION)


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    assert f"checksum of the length 0 is 0x{masked_crc(bytes(8)):08X}" in section("### Reading frames").replace(
        "\n", " "
    )
    assert f"at most {SEGMENT_HEAD_MAX_BYTES:,} bytes" in section("## Segments").replace("\n", " ")


def test_the_segment_on_the_page_is_what_is_written_and_read(tmp_path: Path) -> None:
    stream = Stream("demo", 0, 0, bytes(range(16)))
    said: list[tuple[int, Message]] = [(0, RunStart()), (10, Scalars({"loss": 0.5})), (10, RunEnd("completed"))]
    records = [
        Record(kind_of(message), sequence, step, WALL_TIME_NS + sequence * 10**9, encode_body(message))
        for sequence, (step, message) in enumerate(said, 1)
    ]
    written = pack_segment_head(stream, 1, WALL_TIME_NS) + b"".join(
        pack_frame(pack_record(record)) for record in records
    )
    data = dump()
    assert data.hex(" ") == written.hex(" ")
    segment_path(tmp_path, 1).write_bytes(data)
    reader = RecordingReader(tmp_path)
    assert (reader.stream, reader.read(), reader.damages) == (stream, records, [])
    reader.close()


def dump() -> bytes:
    """Return the bytes of the dump on the page; check that its offsets are consecutive."""
    data = b""
    for line in section("## A whole segment").partition("```text\n")[2].partition("```")[0].splitlines():
        if line:
            assert int(line[:4], 16) == len(data), line
            data += bytes.fromhex(line[6:53])
    return data
