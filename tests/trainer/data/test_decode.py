import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from tensorboard_sidecar.trainer.data import decode, limits
from tensorboard_sidecar.trainer.data.decode import UnreadableError, read_picture, read_recording


def _jpeg(path: Path, width: int = 100, height: int = 60) -> Path:
    """Write a picture with red increasing to the right and green increasing downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)).save(path, "JPEG", quality=95)
    return path


def _wav(path: Path, samples: object, rate_hz: int = 16_000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def _tone(seconds: float, rate_hz: int = 16_000) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return 0.5 * np.sin(2 * np.pi * 300 * np.arange(round(seconds * rate_hz)) / rate_hz)


def test_a_picture_gives_its_middle_square(tmp_path: Path) -> None:
    image = read_picture(_jpeg(tmp_path / "a.jpg"), 32, None)
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
    red, green, _ = image.float()
    assert abs(red.mean() - 127) < 4
    assert red[:, 0].mean() == pytest.approx(255 * 0.2, abs=8)
    assert green[0].mean() < 12
    assert green[-1].mean() > 243


def test_a_crop_is_decided_by_its_seed_and_stays_inside(tmp_path: Path) -> None:
    path = _jpeg(tmp_path / "a.jpg")
    crops = [read_picture(path, 32, seed) for seed in range(20)]
    assert all(torch.equal(crop, read_picture(path, 32, seed)) for seed, crop in enumerate(crops))
    assert len({crop.numpy().tobytes() for crop in crops}) == 20
    for red, green, _ in crops:
        assert red[:, -1].float().mean() > red[:, 0].float().mean() + 100  # never mirrored
        assert green.float().max() - green.float().min() > 255 * 0.8


@pytest.mark.parametrize("mode", ["L", "CMYK", "1"])
def test_pictures_without_rgb_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (40, 40), (200, 10, 10)).convert(mode).save(tmp_path / "a.jpg", "JPEG")
    assert read_picture(tmp_path / "a.jpg", 16, None).shape == (3, 16, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_is_turned_as_the_camera_was_held(tmp_path: Path, orientation: int, kind: str) -> None:
    """Captions name left, right, above and below, which are wrong for a rotated picture."""
    upright = read_picture(_jpeg(tmp_path / "upright.jpg", 64, 64), 16, None).int()
    with Image.open(tmp_path / "upright.jpg") as image:
        # The stored picture for which the transposition of ``orientation`` gives the upright picture.
        back = {**decode._TURNS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation)
        stored = image if back is None else image.transpose(back)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        stored.save(tmp_path / "stored", kind, exif=exif)
    assert (read_picture(tmp_path / "stored", 16, None).int() - upright).abs().max() < 16


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_picture_whose_notes_are_broken_is_a_picture(tmp_path: Path) -> None:
    with Image.open(_jpeg(tmp_path / "a.jpg")) as image:
        image.save(tmp_path / "b.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    assert read_picture(tmp_path / "b.jpg", 16, None).shape == (3, 16, 16)


def test_png_is_read_and_other_formats_are_not(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), (200, 10, 10))
    picture.save(tmp_path / "a.jpg", "PNG")
    assert read_picture(tmp_path / "a.jpg", 16, None)[0].float().mean() == 200
    picture.save(tmp_path / "b.jpg", "TIFF")
    with pytest.raises(UnreadableError, match=r"b\.jpg"):
        read_picture(tmp_path / "b.jpg", 16, None)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IMAGE_MAX_PIXELS", 5999)
    with pytest.raises(UnreadableError, match=r"a\.jpg: 100x60 pixels"):
        read_picture(_jpeg(tmp_path / "a.jpg"), 16, None)


@pytest.mark.parametrize("side_px", [8_000, 9_500, 60_000])
def test_a_decompression_bomb_is_not_decoded(tmp_path: Path, side_px: int) -> None:
    """The header alone decides; Pillow itself would warn from the second size on, and refuse the third."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "bomb.jpg").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(UnreadableError, match=r"bomb\.jpg: .*(pixels|bomb)"):
        read_picture(tmp_path / "bomb.jpg", 16, None)


def test_every_truncation_of_a_picture_is_unreadable_or_a_picture(tmp_path: Path) -> None:
    whole = _jpeg(tmp_path / "a.jpg").read_bytes()
    unreadable = 0
    for size in range(0, len(whole), 7):
        (tmp_path / "b.jpg").write_bytes(whole[:size])
        try:
            assert read_picture(tmp_path / "b.jpg", 16, None).shape == (3, 16, 16)
        except UnreadableError:
            unreadable += 1
    assert unreadable > 0.9 * len(whole) / 7


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    waveform, _ = read_recording(_wav(tmp_path / "a.wav", _tone(0.5)), 4.0)
    assert waveform.dtype == torch.float32
    assert np.abs(waveform.numpy() - _tone(0.5)).max() < 1e-4


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 44_101, 48_000])
def test_other_rates_become_16_khz(tmp_path: Path, rate_hz: int) -> None:
    waveform, _ = read_recording(_wav(tmp_path / "a.wav", _tone(0.5, rate_hz), rate_hz, "FLOAT"), 4.0)
    assert len(waveform) == pytest.approx(8_000, abs=1)
    assert np.abs(waveform.numpy()[400:-400] - _tone(0.5)[400 : len(waveform) - 400]).max() < 0.01


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([_tone(0.1), np.zeros(1600)], axis=1)
    waveform, _ = read_recording(_wav(tmp_path / "a.wav", stereo), 4.0)
    assert np.abs(waveform.numpy() - _tone(0.1) / 2).max() < 1e-4


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_long_recording_is_cut(tmp_path: Path, rate_hz: int) -> None:
    waveform, cut = read_recording(_wav(tmp_path / "a.wav", _tone(3, rate_hz), rate_hz), 0.25)
    assert (len(waveform), cut) == (4_000, True)


def test_a_recording_that_just_fits_is_not_cut(tmp_path: Path) -> None:
    path = _wav(tmp_path / "a.wav", _tone(0.25))
    assert [read_recording(path, seconds).cut for seconds in (0.25, 0.2499)] == [False, True]


@pytest.mark.parametrize(
    ("samples", "rate_hz"),
    [
        (np.zeros(0), 16_000),
        (np.full(1600, np.nan), 16_000),
        (np.full(1600, np.inf), 16_000),
        (np.full(1600, 9000.0), 16_000),
        (np.stack([_tone(0.1), 9000 * _tone(0.1)], axis=1), 16_000),
        (np.zeros(1600), 100),
        (np.zeros(1600), 1_000_000),
        (np.zeros((1600, 9)), 16_000),
    ],
)
def test_what_is_no_recording_of_speech_is_unreadable(tmp_path: Path, samples: object, rate_hz: int) -> None:
    with pytest.raises(UnreadableError, match=r"a\.wav"):
        read_recording(_wav(tmp_path / "a.wav", samples, rate_hz, "FLOAT"), 4.0)


@pytest.mark.parametrize("rate_hz", [16_000, 22_050])
def test_a_loud_recording_stays_between_its_ends(tmp_path: Path, rate_hz: int) -> None:
    """Float files may exceed -1..1, and resampling overshoots at edges."""
    loud = np.sign(_tone(0.1, rate_hz)) * decode.PEAK_MAX
    waveform, _ = read_recording(_wav(tmp_path / "a.wav", loud, rate_hz, "FLOAT"), 4.0)
    assert waveform.abs().max() == 1


@pytest.mark.parametrize("path", ["missing", ".", "a\0b"])
def test_what_cannot_be_opened_is_unreadable(tmp_path: Path, path: str) -> None:
    with pytest.raises(UnreadableError):
        read_picture(tmp_path / path, 16, None)
    with pytest.raises(UnreadableError):
        read_recording(tmp_path / path, 4.0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), picture=st.booleans())
def test_flipped_bytes_give_a_sample_or_an_unreadable_error(tmp_path: Path, data: st.DataObject, picture: bool) -> None:
    """For any file, decoding returns a valid tensor or raises UnreadableError."""
    path = tmp_path / ("a.jpg" if picture else "a.wav")
    raw = bytearray((_jpeg(path) if picture else _wav(path, _tone(0.05))).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        # Most relevant bytes are in the headers.
        raw[data.draw(st.integers(0, min(len(raw), 700) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw)
    try:
        if picture:
            assert read_picture(path, 16, None).shape == (3, 16, 16)
        else:
            waveform, _ = read_recording(path, 0.1)
            assert 0 < len(waveform) <= 1600
            assert waveform.isfinite().all()
    except UnreadableError as error:
        named = str(error)
    else:
        named = path.name
    assert named.startswith(path.name)
