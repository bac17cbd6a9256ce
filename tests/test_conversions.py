"""The tables of docs/CONVERSIONS.md: each row is run, and does what the row says."""

import io
import re
import struct
import zlib
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from support.source import ROOT
from torch import Tensor

from tensorboard_sidecar.logger_service.rendering import pictures, theme
from tensorboard_sidecar.logger_service.rendering.canvas import Picture, encode_png
from tensorboard_sidecar.logger_service.rendering.heatmap import heatmap
from tensorboard_sidecar.logger_service.rendering.pictures import contact_sheet, grid, thumbnail
from tensorboard_sidecar.telemetry.values import arrays
from tensorboard_sidecar.telemetry.values.arrays import (
    OutOfScale,
    as_tensor,
    clip_to_int16,
    matrix_to_floats,
    pictures_to_uint8,
    to_float32,
)
from tensorboard_sidecar.telemetry.values.python_values import plain_range
from tensorboard_sidecar.telemetry.values.summaries import Summarizer
from tensorboard_sidecar.trainer.data.decode import UnreadableError, read_picture, read_recording

PAGE: Final = (ROOT / "docs" / "CONVERSIONS.md").read_text("utf-8")


class Row(NamedTuple):
    """The cells of a row."""

    cells: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """What the first cell names in code."""
        return re.findall("`([^`]+)`", self.cells[0])

    @property
    def result(self) -> str:
        return self.cells[-1]


def table(heading: str, first: str) -> list[Row]:
    """Return the rows of the table whose first column is ``first``, under a heading that begins with ``heading``."""
    lines = iter(PAGE.partition(f"\n## {heading}")[2].partition("\n## ")[0].splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    rows = [
        Row(tuple(cell.strip() for cell in line.split("|")[1:-1])) for line in takewhile(lambda x: x[:1] == "|", lines)
    ]
    return rows[1:]


def numbers(cell: str) -> list[float]:
    """Return the numbers of the code in a cell."""
    return [float(part) for part in re.sub("[^`]*`([^`]*)`.*", r"\1", cell).split(",")] if "`" in cell else []


def tensor(cell: str, dtype: str) -> Tensor:
    values, made = numbers(cell), getattr(torch, dtype)
    return (
        torch.tensor(values, dtype=torch.float64).to(made)
        if made.is_floating_point
        else torch.tensor([*map(int, values)]).to(made)
    )


def by_dtype(heading: str) -> list[Any]:
    rows = table(heading, "dtype")
    return [pytest.param(name, row, id=f"{name}-{' '.join(row.cells[1:])}") for row in rows for name in row.names]


def by_row(heading: str, first: str) -> list[Any]:
    return [pytest.param(row, id=row.cells[0]) for row in table(heading, first)]


def check(convert: Callable[[list[Exception]], Tensor], kept: list[float], said: str) -> None:
    """Check the numbers that a conversion keeps, and what it notes or raises."""
    noted: list[Exception] = []
    if said.startswith("refused: "):
        with pytest.raises((TypeError, ValueError), match=re.escape(said.removeprefix("refused: "))):
            convert(noted)
        return
    np.testing.assert_array_equal(convert(noted).double().flatten().numpy(), kept)
    assert [type(error) for error in noted] == [OutOfScale] * bool(said)
    if said:
        assert re.sub(r" of \d+ values", " of N values", said) in re.sub(
            r" of \d+ values", " of N values", str(noted[0])
        )


@pytest.fixture(params=["host", "device"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the values lie: a stand-in for a device computes as a device does, and may not be read."""
    if request.param == "device":
        monkeypatch.setattr(arrays, "_on_host", lambda _values: False)
        monkeypatch.setattr(Tensor, "item", lambda _tensor: pytest.fail("a value on a device is read"))
    return str(request.param)


@pytest.mark.parametrize(("dtype", "row"), by_dtype("Pictures"))
def test_a_picture(dtype: str, row: Row, place: str) -> None:
    _, _, given, kept, said = row.cells
    said = said if place == "host" or said.startswith("refused") else ""
    given_HW = tensor(given, dtype)[None]
    before = given_HW.clone()
    check(lambda noted: pictures_to_uint8(given_HW, note=noted.append), numbers(kept), said)
    np.testing.assert_array_equal(given_HW.to(torch.complex128).numpy(), before.to(torch.complex128).numpy())


@pytest.mark.parametrize(("dtype", "row"), by_dtype("Sound"))
def test_sound(dtype: str, row: Row, place: str) -> None:
    _, _, given, kept, said = row.cells
    said = said if place == "host" or said.startswith("refused") else ""
    check(lambda noted: clip_to_int16(tensor(given, dtype), noted.append), numbers(kept), said)


def check_shape(convert: Callable[[], Tensor], result: str) -> None:
    if result.startswith("refused: "):
        with pytest.raises(ValueError, match=re.escape(result.removeprefix("refused: "))):
            convert()
    else:
        assert list(convert().shape) == numbers(result)


@pytest.mark.parametrize("row", by_row("Sound", "shape"))
def test_the_shape_of_a_clip(row: Row) -> None:
    clip = torch.rand([int(side) for side in numbers(row.cells[0])])
    check_shape(lambda: clip_to_int16(clip), row.result)


@pytest.mark.parametrize("row", by_row("Pictures", "layout"))
def test_the_layout_of_a_picture(row: Row) -> None:
    sides = [int(side) for side in numbers(row.cells[1])]
    check_shape(lambda: pictures_to_uint8(torch.rand(sides), row.names[0]), row.result)


def several_pictures(name: str) -> Any:
    """Return what a row of the table of pictures names; a name in code is a mode of Pillow."""
    image = Image.fromarray(np.random.default_rng(1).integers(2, 256, (4, 6, 3), np.uint8))
    match name:
        case "a list of two":
            return [torch.rand(3, 4, 6), torch.rand(3, 4, 6)]
        case "a list of two unequal ones":
            return [np.ones((3, 4, 6)), np.ones((3, 4, 5))]
        case "Pillow's mode P with a transparent colour":
            image = image.convert("P")
            image.info["transparency"] = 0
        case "PA":
            image = image.convert("P").convert("PA")
        case "I;16":
            image = Image.fromarray(np.full((4, 6), 999, np.uint16))
        case _:
            image = image.convert(name)
    return image


@pytest.mark.parametrize(
    ("name", "result"),
    [(name, row.result) for row in table("Pictures", "given") for name in row.names or [row.cells[0]]],
)
def test_other_pictures(name: str, result: str) -> None:
    check_shape(lambda: pictures_to_uint8(several_pictures(name)), result)


@pytest.mark.parametrize(("dtype", "row"), by_dtype("Matrices"))
def test_a_matrix(dtype: str, row: Row) -> None:
    _, given, ends, kept = row.cells
    kept, _, said = kept.partition("; noted: ")
    if kept.startswith("refused: "):
        check(lambda _: matrix_to_floats(tensor(given, dtype), None), [], kept)
        return
    value_range = None
    if said:
        with pytest.raises(ValueError, match=re.escape(said)):
            plain_range(tuple(numbers(ends)))  # type: ignore[arg-type]
    elif ends:
        value_range = plain_range(tuple(numbers(ends)))  # type: ignore[arg-type]
    values = tensor(given, dtype)
    found = matrix_to_floats(values, value_range)
    assert str(found.dtype) == f"torch.{kept.split()[-1]}"
    np.testing.assert_array_equal(found.double().numpy(), numbers(kept))
    if found.dtype == torch.float32:
        assert torch.equal(to_float32(values).nan_to_num(), found.nan_to_num())
        summary = Summarizer().summarize_all({"a": values})["a"]
        finite = found[found.isfinite()]
        assert (summary.minimum, summary.maximum) == (finite.min(), finite.max())
        assert summary.nans + summary.positive_infinities == len(found) - len(finite)


def memory(name: str) -> Any:
    """Return 1, 2, 3 as a row of the table of memory says."""
    array = np.array([1, 2, 3], np.int32)
    fields = np.zeros(3, [("a", "u1"), ("b", "i4")])
    fields["b"] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    bytes_ = np.zeros(13, np.uint8)
    unaligned = bytes_[1:].view(np.int32)
    unaligned[:] = array
    made = {
        "big-endian": array.astype(">i4"),
        "little-endian": array.astype("<i4"),
        "reversed, `[::-1]`": array[::-1].copy()[::-1],
        "every second element": np.array([1, 0, 2, 0, 3, 0])[::2],
        "a field of a structured array": fields["b"],
        "not aligned": unaligned,
        "read-only": read_only,
        "longdouble": array.astype(np.longdouble),
        "a list of numbers": [1, 2, 3],
        "requires grad": torch.tensor([1.0, 2.0, 3.0], requires_grad=True),
        "structured": fields,
        "object": array.astype(object),
        "datetime64": array.astype("M8[s]"),
        "timedelta64": array.astype("m8[s]"),
        "text": array.astype(str),
        "masked, nothing hidden": np.ma.masked_array(array),
        "masked": np.ma.masked_array(array, [False, True, False]),
        "sparse": torch.ones(3).to_sparse(),
        "quantized": torch.empty(3, dtype=torch.qint8),
        "int4, bits8": torch.empty(3, dtype=torch.bits8),
    }
    assert set(made) == {row.cells[0] for row in table("Memory", "given")}
    return made[name]


@pytest.mark.filterwarnings("ignore:.*quantize.*:UserWarning")
@pytest.mark.parametrize("row", by_row("Memory", "given"))
def test_memory(row: Row) -> None:
    check(lambda _: as_tensor(memory(row.cells[0])), numbers(row.result), row.result if "refused" in row.result else "")


def png(bits: int, colour_type: int, pixel: bytes, transparent: bytes = b"") -> bytes:
    """Return a PNG file of 16 x 16 equal pixels; below 8 bits, ``pixel`` holds as many pixels as a byte does."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, bits, colour_type, 0, 0, 0))
    palette = chunk(b"PLTE", bytes([255, 128, 0])) if colour_type == 3 else b""
    chunks = chunk(b"tRNS", transparent) if transparent else b""
    line = b"\0" + pixel * (16 * min(bits, 8) // 8)
    data = chunk(b"IDAT", zlib.compress(line * 16))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunks + data + chunk(b"IEND", b"")


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


PNGS: Final = {
    "PNG grey of 1 bit, white": (1, 0, b"\xff"),
    "PNG grey of 2 bits, 2 of 3": (2, 0, b"\xaa"),
    "PNG grey of 4 bits, 5 of 15": (4, 0, b"\x55"),
    "PNG grey of 8 bits, 100": (8, 0, b"\x64"),
    "PNG grey of 16 bits, 40000 of 65535": (16, 0, shorts(40000)),
    "PNG RGB of 16 bits, 40000, 65535, 257": (16, 2, shorts(40000, 65535, 257)),
    "PNG palette, orange": (8, 3, b"\0"),
    "PNG palette, orange half transparent": (8, 3, b"\0", b"\x80"),
    "PNG RGBA, red half transparent": (8, 6, b"\xff\0\0\x80"),
    "PNG RGBA, red wholly transparent": (8, 6, b"\xff\0\0\0"),
    "PNG grey with alpha, 0 half transparent": (8, 4, b"\0\x80"),
    "PNG RGBA of 16 bits, 40000, 0, 0 half transparent": (16, 6, shorts(40000, 0, 0, 0x8000)),
    "PNG RGB with that colour transparent": (8, 2, b"\x01\x02\x03", shorts(1, 2, 3)),
    "PNG grey of 2 bits with that grey transparent": (2, 0, b"\xaa", shorts(2)),
    "PNG grey of 16 bits with that grey transparent": (16, 0, shorts(300), shorts(300)),
    "PNG RGB of 16 bits with that colour transparent": (16, 2, shorts(300, 600, 900), shorts(300, 600, 900)),
}


def jpeg(path: Path, name: str) -> None:
    """Write a JPEG file that a row names."""
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    match name:
        case "JPEG grey 100":
            Image.new("L", (16, 16), 100).save(path, "JPEG", quality=100)
        case "JPEG RGB, red":
            red.save(path, "JPEG", quality=100)
        case "JPEG CMYK, red (taken as inverted, as browsers do)":
            Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, "JPEG", quality=100)
        case "JPEG CMYK without Adobe's marker, red (taken as inverted, as browsers do)":
            Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, "JPEG", quality=100)
            data = path.read_bytes()
            start = data.index(b"\xff\xee")
            path.write_bytes(data[:start] + data[start + 16 :])
        case "JPEG YCCK, red (taken as inverted, as browsers do)":
            # The file holds YCbCr of the complement of the inverted CMY, which is that of the ink; and K inverted.
            luma = Image.new("RGB", (1, 1), (0, 255, 255)).convert("YCbCr").getpixel((0, 0))
            assert isinstance(luma, tuple)
            stored = (*(255 - part for part in luma), 0)
            Image.new("CMYK", (16, 16), stored).save(path, "JPEG", quality=100)
            data = bytearray(path.read_bytes())
            start = data.index(b"\xff\xee")
            data[start + 15] = 2  # the transform: YCCK
            path.write_bytes(data)
        case _:
            pytest.fail(f"no file for {name}")


@pytest.mark.parametrize("row", by_row("Files", "file"))
def test_a_picture_file(tmp_path: Path, row: Row) -> None:
    path, name = tmp_path / "a", row.cells[0]
    if name in PNGS:
        path.write_bytes(png(*PNGS[name]))
    else:
        jpeg(path, name)
    pixel = read_picture(path, 16, None)[:, 8, 8].tolist()
    assert pixel == pytest.approx(numbers(row.result), abs=2 if name.startswith("JPEG") else 0)


SOUND_FILES: Final = [
    pytest.param(
        row.cells[0], subtype, row.result, id=row.cells[0].partition("`")[0] + subtype + row.cells[0].rpartition("`")[2]
    )
    for row in table("Files", "sound file")
    for subtype in row.names
]


@pytest.mark.parametrize(("name", "subtype", "result"), SOUND_FILES)
def test_a_sound_file(tmp_path: Path, name: str, subtype: str, result: str) -> None:
    samples = np.sin(np.arange(1600) / 20) / 2
    samples *= 3 if "three times" in name else 32768 if "scale of int16" in name else 1
    samples[7] = np.nan if "NaN" in name else np.inf if "infinity" in name else samples[7]
    kind, endian = ("WAV", "BIG") if name.startswith("RIFX") else (name.split(maxsplit=1)[0], "FILE")
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype, endian, kind)
    if name.startswith("RIFX"):
        assert (tmp_path / "a.wav").read_bytes()[:4] == b"RIFX"
    if result.startswith("refused: "):
        with pytest.raises(UnreadableError, match=r"a\.wav: .*" + re.escape(result.removeprefix("refused: "))):
            read_recording(tmp_path / "a.wav", 4.0)
        return
    waveform = read_recording(tmp_path / "a.wav", 4.0).waveform.numpy()
    [peak] = numbers(result)
    assert np.abs(waveform).max() == pytest.approx(peak, abs=0.02)
    assert np.abs(waveform - np.clip(samples, -1, 1)).max() < 0.02


def pixels(drawn: Picture) -> "np.ndarray[Any, Any]":
    with Image.open(io.BytesIO(drawn.png)) as image:
        return np.asarray(image)


def draw(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check a row of the table of drawings. Red pixels are wholly opaque, green pixels wholly transparent."""
    red_on_white = np.zeros((1, 32, 32, 4), np.uint8)
    red_on_white[:, ::2] = (200, 0, 0, 255)
    red_on_white[:, 1::2] = (0, 200, 0, 0)
    match name:
        case "matrix with NaN and infinities, float16 or float32":
            for dtype in (np.float16, np.float32):
                values = np.array([[np.nan, 0.0], [np.inf, 1.0]], dtype)
                drawn = heatmap(values, title="", row_label="", column_label="", value_range=None, step=1)
                grey = (pixels(drawn) == theme.NOT_FINITE).all(-1)
                assert 0.49 < grey.sum() / (480 * 480) < 0.6
        case "RGBA in a contact sheet":
            seen = pixels(contact_sheet(red_on_white, ["a"], title="", step=1))
            assert (seen == (200, 0, 0)).all(-1).any()
            assert not (seen[..., 1] > seen[..., 2]).any()
        case "RGBA alone":
            np.testing.assert_array_equal(pixels(encode_png(red_on_white[0])), red_on_white[0])
        case "RGBA in a grid that is reduced":
            monkeypatch.setattr(pictures, "IMAGE_SIDE_MAX", 40)
            assert pixels(grid(red_on_white.repeat(4, axis=0)))[8, 8].tolist() == pytest.approx([200, 0, 0, 128], abs=1)
        case "thumbnail of 1, 3 or 4 channels":
            for channels in (1, 3, 4):
                assert thumbnail(np.zeros((9, 9, channels), np.uint8), 5).shape == (5, 5, 3)
        case _:
            pytest.fail(f"no drawing for {name}")


@pytest.mark.parametrize("row", by_row("Drawings", "on the wire"))
def test_a_drawing(row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(row.cells[0], monkeypatch)
