"""From a file to the pixels that a model takes: every kind of picture, and what is no picture."""

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from keras_course.datasets import hands, mnist
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat, images, prepare, read_picture

GRAY = PictureFormat(height=28, width=28, channels=1)
COLOR = PictureFormat(height=20, width=30, channels=3)
DRAWING = PictureFormat(height=28, width=28, channels=1, drawing=True)
RANDOM = np.random.default_rng(0)


def file_of(image, kind="PNG", **settings):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


# --- Kinds of pictures -----------------------------------------------------------------------------------------

CORNERS = np.array([[10, 200], [90, 40]], "uint8").repeat(14, axis=0).repeat(14, axis=1)  # 28 × 28


def colored(gray):
    return np.stack([gray, 255 - gray, np.full_like(gray, 60)], axis=-1)


def luminance(rgb):
    return (rgb.astype("float64") * [0.299, 0.587, 0.114]).sum(axis=-1)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "CMYK", "YCbCr", "I;16", "I", "F", "1", "PA", "La"])
def test_every_mode_of_pillow_becomes_eight_bits(mode):
    if mode in ("I;16", "I"):
        image = Image.fromarray(CORNERS.astype("uint16" if mode == "I;16" else "int32") * 257)
    else:
        between = {"CMYK": "RGB", "YCbCr": "RGB", "PA": "P", "La": "LA"}.get(mode, "L")
        image = Image.fromarray(CORNERS).convert(between).convert(mode)
    expected = np.where(CORNERS > 127, 255, 0) if mode == "1" else CORNERS
    if mode == "1":
        image = Image.fromarray(CORNERS > 127)
    np.testing.assert_allclose(prepare(image, GRAY)[:, :, 0], expected, atol=1)


@pytest.mark.parametrize(
    ("kind", "mode", "atol"),
    [
        ("PNG", "RGB", 0),
        ("BMP", "RGB", 0),
        ("WEBP", "RGB", 3),
        ("JPEG", "RGB", 4),
        ("JPEG", "CMYK", 8),
        ("JPEG", "L", 2),
        ("GIF", "RGB", 0),
        ("TIFF", "RGB", 0),
        ("TIFF", "CMYK", 1),
        ("PPM", "RGB", 0),
        ("AVIF", "RGB", 4),
    ],
)
def test_every_kind_of_file_is_read(kind, mode, atol):
    rgb = np.full((28, 28, 3), (200, 100, 50), "uint8")
    content = file_of(Image.fromarray(rgb).convert(mode), kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = luminance(rgb)
    np.testing.assert_allclose(prepare(content, GRAY)[:, :, 0], expected, atol=atol + 1)


def test_a_png_of_sixteen_bits_keeps_its_bright_pixels():
    values = np.linspace(0, 65_535, 28 * 28).reshape(28, 28).astype("uint16")
    np.testing.assert_allclose(prepare(file_of(values), GRAY)[:, :, 0], values / 257, atol=0.51)


def test_a_nearly_black_picture_of_sixteen_bits_stays_nearly_black():
    values = np.full((28, 28), 250, "uint16")
    np.testing.assert_array_equal(prepare(file_of(values), GRAY), 1)


def test_numbers_without_a_meaning_are_black():
    values = np.where(CORNERS > 127, np.float32(np.nan), CORNERS.astype("float32"))
    np.testing.assert_array_equal(prepare(Image.fromarray(values), GRAY)[:, :, 0], np.where(CORNERS > 127, 0, CORNERS))


@pytest.mark.parametrize("orientation", [None, 3, 6])
def test_a_photo_of_an_iphone_is_read(orientation):
    plugin = pytest.importorskip("pillow_heif")
    stored = {None: CORNERS, 3: CORNERS[::-1, ::-1], 6: np.rot90(CORNERS)}[orientation].repeat(8, 0).repeat(8, 1)
    exif = Image.Exif()
    exif[274] = orientation or 1
    file = io.BytesIO()
    image = plugin.from_pillow(Image.fromarray(np.ascontiguousarray(stored)).convert("RGB"))
    image.save(file, quality=95, exif=exif.tobytes())
    assert images.format_of(file.getvalue()[:64]) == "HEIF"
    found = prepare(file.getvalue(), PictureFormat(height=8, width=8, channels=1))[:, :, 0]
    np.testing.assert_allclose(found[1::5, 1::5], [[10, 200], [90, 40]], atol=12)


def test_without_its_plug_in_a_photo_of_an_iphone_is_explained(monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(CourseError, match=r"HEIC picture, needs pillow-heif, which is not installed; run: pip install"):
        prepare(content, GRAY, name="IMG_1.HEIC")


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM", "AVIF"])
def test_a_service_takes_only_what_a_browser_sends(kind):
    content = file_of(CORNERS, kind)
    assert images.format_of(content[:64]) == kind
    with pytest.raises(CourseError, match=r"it is none of JPEG, PNG, WEBP, BMP$"):
        prepare(content, GRAY, formats=images.WEB_FORMATS)


@pytest.mark.parametrize(("kind", "settings"), [("PNG", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {})])
def test_of_an_animation_the_first_picture_counts(kind, settings):
    first, second = (Image.fromarray(colored(gray)) for gray in (CORNERS, 255 - CORNERS))
    content = file_of(first, kind, save_all=True, append_images=[second], **settings)
    np.testing.assert_allclose(prepare(content, GRAY)[:, :, 0], luminance(colored(CORNERS)), atol=1)


def test_of_a_phone_that_puts_two_pictures_into_a_jpeg_the_first_counts():
    first, second = Image.fromarray(CORNERS), Image.fromarray(255 - CORNERS)
    content = file_of(first, "MPO", save_all=True, append_images=[second], quality=95)
    np.testing.assert_allclose(prepare(content, GRAY)[2:12, 2:12, 0], 10, atol=4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    {
        1: lambda upright: upright,
        2: lambda upright: upright[:, ::-1],
        3: lambda upright: upright[::-1, ::-1],
        4: lambda upright: upright[::-1],
        5: lambda upright: upright.T,
        6: lambda upright: np.rot90(upright),
        7: lambda upright: upright[::-1, ::-1].T,
        8: lambda upright: np.rot90(upright, -1),
    }.items(),
)
def test_a_camera_that_was_held_otherwise_is_turned_back(orientation, stored, kind):
    """What each number of EXIF means, from its standard: where row 0 and column 0 of the file are in the picture."""
    upright = CORNERS.repeat(8, axis=0).repeat(8, axis=1)
    exif = Image.Exif()
    exif[274] = orientation
    content = file_of(np.ascontiguousarray(stored(upright)), kind, exif=exif)
    found = prepare(content, PictureFormat(height=8, width=8, channels=1))[:, :, 0]
    np.testing.assert_allclose(found[1::5, 1::5], [[10, 200], [90, 40]], atol=12)


def exif_of(*entries, extra=b"", orientation=6):
    """EXIF of little-endian order by its standard: the orientation, and entries (tag, kind, count, four bytes)."""
    entries = [(0x112, 3, 1, struct.pack("<HH", orientation, 0)), *entries]
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + extra


def jpeg_with(segments, marker=0xE1):
    """A JPEG, stored lying on its side, with segments of metadata."""
    content = file_of(np.ascontiguousarray(np.rot90(CORNERS.repeat(8, axis=0).repeat(8, axis=1))), "JPEG", quality=95)
    metadata = [bytes([0xFF, marker]) + struct.pack(">H", len(segment) + 2) + segment for segment in segments]
    return content[:2] + b"".join(metadata) + content[2:]


def png_with(*chunks):
    content = file_of(CORNERS.repeat(8, axis=0).repeat(8, axis=1))
    return content[:33] + b"".join(chunk(*one) for one in chunks) + content[33:]


BEYOND = struct.pack("<I", 8 + 2 + 2 * 12 + 4)  # where a value lies that has no place in its entry
ODD_METADATA = {
    "a resolution of -1 to 0": jpeg_with([exif_of((0x11A, 10, 1, BEYOND), extra=struct.pack("<ii", -1, 0))]),
    "a negative width": jpeg_with([exif_of((0x100, 9, 1, struct.pack("<i", -5)))]),
    "a text for a resolution": jpeg_with([exif_of((0x11A, 2, 4, b"abc\0"))]),
    "a width of no kind": jpeg_with([exif_of((0x100, 7, 2, b"ab\0\0"))]),
    "an unknown kind": jpeg_with([exif_of((0x100, 99, 2, b"ab\0\0"))]),
    "a value beyond the end": jpeg_with([exif_of((0x10F, 2, 2**31, struct.pack("<I", 2**31)))]),
    "a sub-directory that is itself": jpeg_with([exif_of((0x8769, 4, 1, struct.pack("<I", 8)))]),
    "a maker's note": jpeg_with([exif_of((0x927C, 7, 4, b"\xff" * 4))]),
    "two of them": jpeg_with([exif_of(), exif_of(orientation=3)]),
    "a color profile cut short": jpeg_with([exif_of(), b"ICC_PROFILE\0\x05\x02??"]),
    "a multi-picture index of nothing": jpeg_with([exif_of(), b"MPF\0II*\0\x08\0\0\0\0\0"]),
    "Photoshop's resources cut short": jpeg_with([exif_of(), b"Photoshop 3.0\x008BIM\x04\x04\0\0\xff\xff\xff\xff"]),
}
NO_METADATA = {
    "a PNG with EXIF that is none": png_with((b"eXIf", b"\0\x08\0\2\1\x12\0\3")),
    "a PNG with 3 MB of text": png_with((b"zTXt", b"x\0\0" + zlib.compress(bytes(3_000_000)))),
    "a PNG with a long text of Unicode": png_with((b"iTXt", b"x\0\1\0\0\0" + zlib.compress(bytes(3_000_000)))),
    "a PNG with a damaged profile": png_with((b"iCCP", b"x\0\0no zlib")),
    "a PNG with a strange resolution": png_with((b"pHYs", b"\0\1")),
    "a PNG with a time of nothing": png_with((b"tIME", b"")),
    "a JPEG with EXIF that is none": jpeg_with([b"Exif\0\0??"]),
    "a JPEG with an empty segment": jpeg_with([b""]),
    "a JPEG with an orientation that is a text": jpeg_with(
        [b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0\0\0\0\0"]
    ),
    "a JPEG with an orientation of 9": jpeg_with([exif_of(orientation=9)]),
    "a JPEG with a comment of two bytes": jpeg_with([b"\xff\xff"], marker=0xFE),
}


@pytest.mark.parametrize("title", [*ODD_METADATA, *NO_METADATA])
def test_metadata_never_cost_a_picture(title):
    """Of EXIF only the orientation counts; what cannot be read of it counts as none."""
    found = prepare((ODD_METADATA | NO_METADATA)[title], PictureFormat(height=8, width=8, channels=1))[:, :, 0]
    upright = title in ODD_METADATA or "PNG" in title
    expected = np.array([[10, 200], [90, 40]])
    np.testing.assert_allclose(found[1::5, 1::5], expected if upright else np.rot90(expected), atol=12)


def test_a_picture_of_pillow_is_turned_back_too(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "turned.png").write_bytes(file_of(np.ascontiguousarray(np.rot90(CORNERS)), exif=exif))
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(prepare(image, GRAY)[:, :, 0], CORNERS)


def test_behind_a_transparent_picture_is_the_background():
    rgba = np.zeros((28, 28, 4), "uint8")
    rgba[:, :14] = (100, 100, 100, 255)
    rgba[:, 14:] = (100, 100, 100, 51)  # a fifth
    for background in (0, 255):
        found = prepare(rgba, PictureFormat(height=28, width=28, channels=1, background=background))[:, :, 0]
        np.testing.assert_allclose(found[:, :14], 100, atol=1)
        np.testing.assert_allclose(found[:, 14:], 0.2 * 100 + 0.8 * background, atol=1)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_color_of_a_png_is_transparent(mode):
    image = Image.fromarray(CORNERS).convert(mode)
    transparent = image.getpixel((0, 0))
    content = file_of(image, transparency=transparent)
    assert read_picture(content).mode in ("LA", "RGBA")
    found = prepare(content, GRAY)[:, :, 0]
    assert found[0, 0] == 255
    assert abs(int(found[-1, -1]) - 40) <= 1


# --- Size and proportions --------------------------------------------------------------------------------------


def prepared(array, resize, size=(10, 10), **settings):
    picture_format = PictureFormat(height=size[0], width=size[1], channels=1, resize=resize, **settings)
    return prepare(array, picture_format)[:, :, 0].astype("float64")


BANDS = np.repeat(np.array([0, 100, 200], "uint8"), 40)[:, None].repeat(40, axis=1)  # 120 high, 40 wide


def test_a_crop_keeps_the_middle():
    np.testing.assert_allclose(prepared(BANDS, "crop")[1:-1], 100, atol=2)
    sides = prepared(BANDS.T, "crop", size=(10, 20))  # of 120 × 40 the middle 80
    np.testing.assert_allclose(sides[:, [2, 9, 10, 17]], [[0, 100, 100, 200]] * 10, atol=2)


def test_the_middle_may_be_smaller():
    whole = np.zeros((64, 64), "uint8")
    whole[8:-8, 8:-8] = 200
    assert prepared(whole, "crop", middle=0.75).min() > 160
    assert prepared(whole, "crop", middle=1.0)[0, 0] < 40


def test_padding_keeps_all_and_fills_up():
    found = prepared(BANDS, "pad", size=(12, 12), background=77)
    np.testing.assert_allclose(found[:, :4], 77)
    np.testing.assert_allclose(found[:, 8:], 77)
    np.testing.assert_allclose(found[[1, 6, 10], 4:8], [[0] * 4, [100] * 4, [200] * 4], atol=1)


def test_extending_repeats_the_edge():
    found = prepared(BANDS, "extend", size=(12, 12))
    np.testing.assert_array_equal(found, found[:, :1].repeat(12, axis=1))
    np.testing.assert_allclose(found[[1, 6, 10], 0], [0, 100, 200], atol=1)
    wide = prepared(BANDS.T, "extend", size=(12, 12))
    np.testing.assert_array_equal(wide, found.T)


def test_stretching_keeps_all():
    np.testing.assert_allclose(
        prepared(BANDS, "stretch", size=(12, 12))[[1, 6, 10]][:, ::5].T, [[0, 100, 200]] * 3, atol=2
    )


@pytest.mark.parametrize("resize", ["crop", "pad", "extend", "stretch"])
def test_a_line_of_pixels_is_no_trouble(resize):
    for shape in ((1, 60_000), (60_000, 1), (1, 1)):
        assert prepared(np.full(shape, 9, "uint8"), resize, size=(28, 20)).shape == (28, 20)


def test_shrinking_averages_also_in_a_large_jpeg():
    """Stripes of one pixel are gray from afar; every tenth pixel alone would be a stripe."""
    stripes = np.tile(np.array([[0], [200]], "uint8"), (600, 1200))
    for content in (file_of(stripes), file_of(stripes, "JPEG", quality=95)):
        np.testing.assert_allclose(prepare(content, GRAY)[2:-2, 2:-2], 100, atol=3)


def test_full_contrast_reaches_from_black_to_white():
    ramp = np.linspace(80, 120, 56).astype("uint8")[None].repeat(56, axis=0)
    found = prepared(ramp, "stretch", size=(28, 28), full_contrast=True)
    assert (found.min(), found.max()) == (0, 255)
    np.testing.assert_allclose(found[0], np.linspace(0, 255, 28), atol=10)
    flat = np.full((56, 56), 90, "uint8")
    np.testing.assert_array_equal(prepared(flat, "stretch", size=(28, 28), full_contrast=True), 90)


def test_colors_stay_in_their_channels():
    rgb = np.zeros((40, 60, 3), "uint8")
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 250, 120, 10
    np.testing.assert_array_equal(prepare(rgb, COLOR), np.full((20, 30, 3), (250, 120, 10)))
    gray = np.full((40, 60), 33, "uint8")
    np.testing.assert_array_equal(prepare(gray, COLOR), np.full((20, 30, 3), 33))


@pytest.mark.parametrize(
    ("pictures", "picture_format"),
    [(lambda: mnist.load_data("sample")[1][0], mnist.PICTURES), (lambda: hands.draw(np.arange(24)), hands.PICTURES)],
    ids=["digits", "hands"],
)
def test_a_picture_of_a_data_set_stays_as_it_is_to_the_last_bit(pictures, picture_format):
    """What a model was trained on has to come to it unchanged when it is served as a file."""
    for picture in pictures():
        np.testing.assert_array_equal(prepare(file_of(picture[:, :, 0]), picture_format), picture)


# --- Drawings --------------------------------------------------------------------------------------------------

(_, _), (DIGITS, LABELS) = mnist.load_data("sample")


def as_photo(digit, *, factor=6, ink=40, paper=220, at=(60, 130), size=(300, 400), shade=0.0, noise=0.0):
    """Puts a digit on paper."""
    large = np.asarray(Image.fromarray(digit).resize((28 * factor,) * 2, Image.Resampling.BICUBIC), "float64") / 255
    photo = np.full(size, float(paper))
    photo *= 1 - shade * np.linspace(0, 1, size[1])
    top, left = at
    part = photo[top : top + 28 * factor, left : left + 28 * factor]
    part += large * (ink - part)
    photo += np.random.default_rng(1).normal(0, noise, size)
    return np.clip(np.rint(photo), 0, 255).astype("uint8")


LIKE_MNIST = {
    "dark on white": {},
    "bright on black": {"ink": 240, "paper": 15},
    "in a corner": {"at": (0, 0)},
    "huge": {"factor": 10, "at": (10, 60)},
    "small": {"factor": 2},
    "faint": {"ink": 150, "paper": 210},
    "in uneven light": {"shade": 0.5},
    "with noise": {"noise": 6.0},
    "with all of it": {"shade": 0.4, "noise": 6.0, "ink": 70, "at": (110, 20)},
}


@pytest.mark.parametrize("name", LIKE_MNIST)
def test_a_digit_on_paper_becomes_one_of_mnist(name):
    differences = []
    for digit in DIGITS[:30, :, :, 0]:
        found = prepare(as_photo(digit, **LIKE_MNIST[name]), DRAWING)[:, :, 0].astype("float64")
        rows, columns = (np.flatnonzero((found > 100).any(axis=axis)) for axis in (1, 0))
        assert 17 <= max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 <= 21
        assert np.abs(np.array(center(found)) - 14.5).max() < 1
        assert found.max() > 250
        assert np.median(found[[0, -1]]) == 0
        differences.append(np.abs(found - digit).mean())
    assert np.mean(differences) < 11, "of 255; two different digits are 60 apart"


def center(picture):
    return [(picture.sum(axis=axis) * (np.arange(28) + 0.5)).sum() / picture.sum() for axis in (1, 0)]


def test_the_digits_of_mnist_have_their_center_of_weight_where_drawings_get_it():
    """Not in the very middle, 14, but in that of a pixel."""
    centers = np.array([center(digit) for digit in DIGITS[:, :, :, 0].astype("float64")])
    np.testing.assert_allclose(centers.mean(axis=0), 14.5, atol=0.02)
    assert np.abs(centers - 14.5).max() < 1


def ring(size=(300, 400), center=(150, 200), radius=60, pen=10.0, ink=20.0, paper=230.0):
    """A circle of ink, drawn by its equation."""
    rows, columns = np.indices(size)
    distance = np.abs(np.hypot(rows - center[0], columns - center[1]) - radius)
    return np.where(distance <= pen / 2, ink, paper).astype("uint8")


@pytest.mark.parametrize(
    "picture",
    [
        ring(),
        255 - ring(),
        ring(center=(70, 330)),
        ring(radius=20, pen=4),
        ring(radius=140, pen=20),
        ring(radius=140, pen=3),
        ring(size=(3000, 4000), center=(1200, 1500), radius=700, pen=90),
        ring(size=(121, 121), center=(60, 60)),
        np.minimum(ring(), np.tile(np.where(np.arange(400) < 200, 230, 150), (300, 1))),
        ring() * (1 - 0.2 * np.add.outer(np.linspace(-1, 1, 300) ** 2, np.linspace(-1, 1, 400) ** 2)),
    ],
    ids=["plain", "inverted", "aside", "small", "large", "thin", "camera", "cut", "half in shadow", "dark corners"],
)
def test_a_ring_becomes_a_ring_of_twenty_pixels_in_the_middle(picture):
    found = prepare(picture.astype("uint8"), DRAWING)[:, :, 0].astype("float64")
    rows, columns = (np.flatnonzero((found > 60).any(axis=axis)) for axis in (1, 0))
    assert abs(rows[-1] - rows[0] - 19) <= 1
    assert abs(columns[-1] - columns[0] - 19) <= 1
    # its middle is a corner of four pixels, and one of the two pixels beside is as near
    assert np.abs(np.array(center(found)) - 14.5).max() < 0.7
    middle = tuple(int(place) for place in center(found))
    assert found[middle] == 0, "the hole stays a hole"


def test_dirt_far_away_does_not_count():
    picture = ring()
    expected = prepare(picture, DRAWING)
    for row, column in ((5, 5), (290, 390), (8, 300), (295, 30)):
        picture[row : row + 4, column : column + 4] = 20
    np.testing.assert_allclose(prepare(picture, DRAWING).astype(int), expected, atol=12)


def test_a_drawing_of_two_strokes_keeps_both():
    """As a 5 whose upper line has come off."""
    picture = np.full((300, 300), 240, "uint8")
    picture[60:75, 100:200] = 10
    picture[100:240, 120:135] = 10
    found = prepare(picture, DRAWING)[:, :, 0]
    rows = np.flatnonzero((found > 100).any(axis=1))
    assert len(rows) == pytest.approx(20 * (15 + 140) / 180, abs=2.5), "with a gap between them"
    assert rows[-1] - rows[0] == pytest.approx(19, abs=1)


def test_the_picture_of_a_camera_takes_little_memory():
    """A drawing is looked for in a small picture: 48 million floating-point numbers would be 192 MB."""
    picture = np.full((6000, 8000), 220, "uint8")
    picture[2000:4000, 3900:4100] = 30
    tracemalloc.start()
    try:
        found = prepare(picture, DRAWING)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.max() == 255
    assert peak < 100e6


# --- What is no picture ----------------------------------------------------------------------------------------


def png_that_claims(width, height, content=b""):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = content or zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is none of JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM, AVIF, HEIF"),
        (b"GIF89a" + bytes(100), "cannot be read as a picture"),
        (file_of(CORNERS, "GIF")[:90], "cannot be read as a picture"),
        (file_of(CORNERS, "TIFF")[:200], "cannot be read as a picture"),
        (file_of(CORNERS, "AVIF")[:200], "cannot be read as a picture"),
        (b"P6 50000 50000 255 ", "too many pixels"),
        (b"P9 2 2 255 abcd", "it is none of"),
        (file_of(CORNERS, "EPS"), "it is none of"),
        (b"8BPS" + bytes([0, 1]) + bytes(500), "it is none of"),
        (file_of(CORNERS, "ICO"), "it is none of"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is none of"),
        (file_of(CORNERS, "WEBP")[:40], "cannot be read as a picture"),
        (file_of(CORNERS, "BMP")[:70], "cannot be read as a picture"),
        (file_of(CORNERS)[:60], "cannot be read as a picture"),
        (file_of(CORNERS, "JPEG")[:200], "cannot be read as a picture"),
        (png_that_claims(50_000, 50_000), "too many pixels; give a picture of at most 64,000,000"),
        (png_that_claims(2**31 - 1, 2**31 - 1), "pixels; give a picture of at most"),
        (png_that_claims(9000, 9000), r"has 9,000 × 9,000 pixels; give a picture of at most 64,000,000"),
        (png_that_claims(0, 10), "cannot be read as a picture|none of"),
        (b"\xff\xd8" + bytes(images.LARGEST_FILE_BYTES), "bytes; give a picture of at most 33,554,432"),
    ],
)
def test_what_is_no_picture_is_explained(content, message):
    with pytest.raises(CourseError, match=message) as error:
        prepare(content, GRAY, name="holiday.png")
    assert str(error.value).startswith("holiday.png ")


def test_a_file_that_cannot_be_opened_is_explained(tmp_path):
    with pytest.raises(CourseError, match=r"there is no picture .*nowhere.png; give the path of one"):
        prepare(tmp_path / "nowhere.png", GRAY)
    with pytest.raises(CourseError, match="Is a directory"):
        prepare(tmp_path, GRAY)
    (tmp_path / "good.png").write_bytes(file_of(CORNERS))
    assert prepare(str(tmp_path / "good.png"), GRAY).shape == (28, 28, 1)


def test_a_name_that_cannot_be_one_is_explained(tmp_path):
    with pytest.raises(CourseError, match=r"cannot be read: .*null (byte|character)"):
        prepare("photo\0.png", GRAY)
    with pytest.raises(CourseError, match="cannot be read: File name too long"):
        prepare(tmp_path / ("n" * 1000), GRAY)


@pytest.mark.parametrize("source", [None, [1, 2], bytearray(b"x"), 7])
def test_a_source_that_is_no_picture_is_explained(source):
    with pytest.raises(CourseError, match=r"the picture is a .*; give a path, the bytes of a file, or an array"):
        prepare(source, GRAY)


def test_a_picture_of_pillow_that_is_damaged_or_empty_is_explained():
    content = file_of(RANDOM.integers(0, 256, (90, 90), dtype="uint8"))
    with (
        Image.open(io.BytesIO(content[: len(content) // 2])) as image,
        pytest.raises(CourseError, match="the picture cannot be read as a picture"),
    ):
        prepare(image, GRAY)
    with pytest.raises(CourseError, match="the picture has 0 × 5 pixels; give a picture that has pixels"):
        prepare(Image.new("L", (0, 5)), GRAY)


OPEN_ALL = """
import resource, sys
from pathlib import Path
from keras_course.errors import CourseError
from keras_course.preprocessing import PictureFormat, prepare

GRAY = PictureFormat(height=28, width=28, channels=1)
first, *bombs = map(Path, sys.argv[1:])
prepare(first, GRAY)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**27,) * 2)
for bomb in bombs:
    try:
        print(bomb.name, "has become", prepare(bomb, GRAY).shape)
    except CourseError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits the memory of a process as Linux does")
def test_bombs_do_not_get_the_memory_that_they_ask_for(tmp_path):
    """Each would be half a gigabyte; 128 MiB are allowed."""
    packed, good = zlib.compress(bytes(2**29), 9), file_of(CORNERS)

    def with_chunk(name, start):
        return good[:33] + chunk(name, start + packed) + good[33:]

    bombs = {
        "good": good,
        "pixels": png_that_claims(9000, 9000, packed),
        "more_pixels": png_that_claims(50_000, 50_000, packed),
        "text": with_chunk(b"zTXt", b"x\0\0"),
        "international_text": with_chunk(b"iTXt", b"x\0\1\0\0\0"),
        "profile": with_chunk(b"iCCP", b"x\0\0"),
        "rows": png_that_claims(28, 28, packed),
    }
    for name, content in bombs.items():
        (tmp_path / name).write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OPEN_ALL, *(str(tmp_path / name) for name in bombs)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    pixels, more_pixels, text, international_text, profile, rows = done.stdout.splitlines()
    assert pixels.endswith("has 9,000 × 9,000 pixels; give a picture of at most 64,000,000 pixels")
    assert more_pixels.endswith("has too many pixels; give a picture of at most 64,000,000 pixels")
    for line in (text, international_text, profile):
        assert "too large" in line or "has become" in line
    assert rows.endswith("rows has become (28, 28, 1)")


def jpeg_of_scans(count, side=64, before=b"", after=b""):
    """A progressive JPEG of a gray square with ``count`` scans: the last one of them is written again and again."""
    picture = file_of(np.full((side, side), 90, "uint8"), "JPEG", progressive=True)
    start = picture.rindex(b"\xff\xda")
    scan = picture[start:-2]
    more = count - picture.count(b"\xff\xda")
    return picture[:2] + before + picture[2:-2] + more * scan + picture[-2:] + after


def test_a_jpeg_has_no_more_scans_than_a_picture_needs():
    """A file of a megabyte could keep a decoder busy for minutes."""
    expected = np.full((28, 28, 1), 90)
    for content in (jpeg_of_scans(10), jpeg_of_scans(images.LARGEST_SCANS)):
        np.testing.assert_allclose(prepare(content, GRAY), expected, atol=1)
    for count in (images.LARGEST_SCANS + 1, 50_000):
        with pytest.raises(CourseError, match=r"x\.jpg is a JPEG of 64 × 64 pixels in more than 100 scans; save it"):
            prepare(jpeg_of_scans(count), GRAY, name="x.jpg")
    with pytest.raises(CourseError, match="5,000 × 5,000 pixels in more than 40 scans"):
        prepare(jpeg_of_scans(41, side=5000), GRAY)
    assert prepare(jpeg_of_scans(40, side=5000), GRAY).shape == (28, 28, 1)


def test_what_only_looks_like_a_scan_does_not_count():
    """Phones put previews before a picture and films after it."""
    preview = b"\xff\xe1" + (2**15).to_bytes(2, "big") + b"\xff\xda" * (2**14 - 1)
    assert prepare(jpeg_of_scans(20, before=preview, after=b"\xff\xda" * 1000), GRAY).shape == (28, 28, 1)
    png = png_that_claims(28, 28, zlib.compress(bytes(28 * (1 + 28 * 3)))) + b"\xff\xda" * 1000
    assert not prepare(png, GRAY).any()


def test_threads_leave_the_warnings_of_others_as_they_were():
    picture = file_of(CORNERS)
    before = warnings.filters[:]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: prepare(picture, GRAY), range(400)))
    assert warnings.filters == before


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), "float32"), np.zeros((4, 4, 2), "uint8"), np.zeros((4,), "uint8"), np.zeros((0, 4), "uint8")],
)
def test_an_array_that_is_no_picture_is_explained(array):
    with pytest.raises(CourseError, match="is an array"):
        read_picture(array)


def test_a_smaller_limit_of_pixels_is_kept():
    assert read_picture(np.zeros((10, 10), "uint8"), largest_pixels=100).size == (10, 10)
    with pytest.raises(CourseError, match="10 × 11 pixels; give a picture of at most 100 pixels"):
        read_picture(np.zeros((11, 10), "uint8"), largest_pixels=100)


SEEDS = [file_of(colored(CORNERS), kind) for kind in images.PICTURE_FORMATS if kind != "HEIF"]


@settings(max_examples=150, deadline=None)
@given(
    number=st.integers(0, len(SEEDS) - 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.2, 1),
)
def test_a_damaged_file_gives_pixels_or_an_explanation(number, changes, kept):
    content = bytearray(SEEDS[number])
    for place, value in changes:
        content[int(place * (len(content) - 1))] = value
    try:
        found = prepare(bytes(content[: int(kept * len(content))]), COLOR)
    except CourseError:
        return
    assert (found.shape, found.dtype) == (COLOR.shape, np.uint8)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 0}, "height is 0"),
        ({"width": 5000}, "height or width is 5000; give at most 4096"),
        ({"channels": 2}, "channels is 2; give 1 or 3"),
        ({"resize": "squeeze"}, "resize is 'squeeze'; give one of crop, pad, extend, stretch"),
        ({"middle": 0}, "middle is 0"),
        ({"middle": "all"}, "middle is 'all'"),
        ({"background": True}, "background is True; give a whole number from 0 to 255"),
        ({"interpolation": ["bicubic"]}, r"interpolation is \['bicubic'\]; give one of"),
        ({"interpolation": "best"}, "interpolation is 'best'; give one of bicubic, bilinear, lanczos"),
        ({"background": 256}, "background is 256"),
        ({"background": 1.5}, "background is 1.5"),
        ({"drawing": 1}, "drawing is 1; give true or false"),
        ({"full_contrast": "yes"}, "full_contrast is 'yes'"),
        ({"drawing": True, "channels": 3}, "channels is 3; give 1 for a drawing"),
    ],
)
def test_a_format_that_makes_no_sense_is_explained(settings, message):
    with pytest.raises(CourseError, match=message):
        PictureFormat(**{"height": 28, "width": 28, "channels": 1, **settings})


def test_a_blank_sheet_has_no_drawing():
    for sheet in (np.full((90, 60), 255, "uint8"), np.full((90, 60, 3), (40, 60, 50), "uint8")):
        np.testing.assert_array_equal(prepare(sheet, DRAWING), np.zeros((28, 28, 1)))


def test_an_avif_picture_without_its_decoder_is_explained(monkeypatch):
    monkeypatch.setattr(images.features, "check", lambda name: name != "avif")
    content = b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(100)
    with pytest.raises(
        CourseError, match=r"a\.avif is an AVIF picture, which this Pillow cannot read; run: pip install"
    ):
        prepare(content, GRAY, name="a.avif")


def test_a_png_with_too_much_text_is_still_turned_upright():
    """Pillow refuses its text; without its metadata it is read again."""
    content = png_with((b"zTXt", b"x\0\0" + zlib.compress(bytes(3_000_000))), (b"eXIf", exif_of()[6:]))
    found = prepare(content, PictureFormat(height=8, width=8, channels=1))[:, :, 0]
    np.testing.assert_allclose(found[1::5, 1::5], np.rot90([[10, 200], [90, 40]], -1), atol=12)


def test_a_photo_that_is_cut_short_is_explained_with_and_without_metadata():
    for content in (jpeg_with([exif_of()]), jpeg_with([])):
        with pytest.raises(CourseError, match=r"a\.jpg cannot be read as a picture: image file is truncated"):
            prepare(content[:-20], GRAY, name="a.jpg")
