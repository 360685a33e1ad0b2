"""Image files, pictures and arrays: known formats alone, depths in their range, orientations as asked."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from image_data import IMAGES, message
from numpy.typing import NDArray
from PIL import Image

from memkern.audit.data.decode import FORMATS, MAX_PIXELS, SUFFIXES, Pixels, opened

RAMP = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
HIGH = torch.from_numpy((RAMP >> 8).astype(np.uint8))


def saved(array: NDArray[np.generic], kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "PPM", "TIFF", "JPEG2000"])
def test_sixteen_bits_keep_their_highest_eight(kind: str) -> None:
    options = {"irreversible": False} if kind == "JPEG2000" else {}
    assert torch.equal(Pixels().file(saved(RAMP, kind, **options)), HIGH.expand(3, 8, 8))


def tiff(values: bytes, bits: int, *, white_is_zero: bool = False, kind: int = 1) -> bytes:
    """A TIFF file of 8 x 8 gray pixels of any depth."""
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: int(not white_is_zero), 273: 8, 277: 1, 278: 8, 279: len(values)}
    tags[339] = kind
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHI", b"II", 42, 8 + len(values)) + values + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.field("data", "gray TIFF of 12 and 16 bits")
def test_depths_of_tiff_are_told_by_its_tags() -> None:
    deep = (RAMP >> 4).astype(np.uint16).ravel()
    packed = bytes(
        byte
        for a, b in zip(deep[::2].tolist(), deep[1::2].tolist(), strict=True)
        for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255)
    )
    assert torch.equal(Pixels().file(tiff(packed, 12)), HIGH.expand(3, 8, 8)), "12 bits are not dark"
    inverse = tiff((65535 - RAMP).astype("<u2").tobytes(), 16, white_is_zero=True)
    assert torch.equal(Pixels().file(inverse), HIGH.expand(3, 8, 8)), "0 is white"


@pytest.mark.parametrize("dtype", ["<i2", "<i4", "<f4"])
def test_types_without_a_range_need_one(dtype: str) -> None:
    values = np.linspace(-1000, 3000, 64).astype(dtype).reshape(8, 8)
    file = tiff(values.tobytes(), 8 * values.itemsize, kind=3 if dtype == "<f4" else 2)
    if dtype == "<f4":
        assert torch.equal(Pixels().file(file)[0], torch.from_numpy(values)), "the check of images says what is wrong"
    else:
        assert "whose range is unknown: state it, ?range=0,4095" in message(Pixels().file, file)
    scaled = ((values.astype(np.float64) + 1000) * 255 / 4000).round().astype(np.uint8)
    assert torch.equal(Pixels(bounds=(-1000, 3000)).file(file)[0], torch.from_numpy(scaled))
    assert "not in the stated 0 to 3000" in message(Pixels(bounds=(0, 3000)).file, file)


def test_values_of_arrays() -> None:
    assert torch.equal(Pixels().array(RAMP), HIGH)
    assert Pixels().array(np.array([True, False])).tolist() == [255, 0]
    assert Pixels().array(np.array([0.25], ">f4")).tolist() == [0.25]
    for dtype in (np.int8, np.int16, np.int32, np.int64, np.uint32, np.uint64):
        assert f"values of {np.dtype(dtype)}, whose range is unknown" in message(Pixels().array, np.zeros(2, dtype))
    assert Pixels(bounds=(0, 4095)).array(np.array([0, 4095, 2048], np.int64)).tolist() == [0, 255, 128]


@pytest.mark.field("data", "EPS behind `.jpg`: refused")
def test_formats_that_start_other_programs_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho $@ > {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    for head in (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n",
        b"8BPS\0\1" + bytes(100),
        b"\xd7\xcd\xc6\x9a" + bytes(100),
    ):
        (tmp_path / "x.jpg").write_bytes(head)
        assert message(Pixels().file, tmp_path / "x.jpg").startswith("not an image of a known format (")
    assert not (tmp_path / "ran").exists()


def test_every_format_of_the_list_is_read() -> None:
    Image.init()
    smooth = np.asarray(Image.fromarray(IMAGES[0]).resize((32, 32), Image.Resampling.BICUBIC))
    for kind in set(FORMATS) & set(Image.SAVE):
        assert Pixels().file(saved(smooth, kind)).shape == (3, 32, 32), kind
    assert {".jfif", ".jpe", ".avif", ".jp2", ".webp"} <= SUFFIXES
    assert ".eps" not in SUFFIXES


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.field("data", "files that claim a size which takes all memory: refused")
def test_a_claimed_size_is_refused_before_memory_is_taken() -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (60_000, 11_700):
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
        assert side * side > MAX_PIXELS
        assert message(opened, io.BytesIO(bomb + chunk(b"IEND", b""))).startswith("an image ")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation: int) -> None:
    from PIL import ImageOps

    wide = Image.fromarray(np.ascontiguousarray(IMAGES[0][:4]))
    exif = wide.getexif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    wide.save(buffer, "PNG", exif=exif)
    as_it_is = torch.from_numpy(np.array(wide)).permute(2, 0, 1)
    assert torch.equal(Pixels().file(buffer.getvalue()), as_it_is)
    upright = torch.from_numpy(np.array(ImageOps.exif_transpose(Image.open(buffer)))).permute(2, 0, 1)
    assert torch.equal(Pixels(upright=True).file(buffer.getvalue()), upright)
    assert upright.shape == ((3, 8, 4) if orientation > 4 else (3, 4, 8))


def test_a_turned_photograph_of_sixteen_bits() -> None:
    picture = Image.fromarray(RAMP[:4])
    exif = picture.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    assert torch.equal(Pixels(upright=True).file(buffer.getvalue())[0], HIGH[:4].rot90(-1))
