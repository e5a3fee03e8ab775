"""Preprocessing of pictures: decoding, upright orientation, cropping or padding, resizing.

Everything is done on the host in Pillow and NumPy, so that a picture gives the same bytes for every backend and every
exported format, in training and in serving. Nothing here imports Keras. Files are not trusted: size, format and claimed
pixels are checked before decoding. Only the orientation is used from the metadata; damaged metadata are ignored.
"""

import io
import os
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFilter, ImageOps, features

from keras_course.errors import CourseError, MissingPackageError, reason_of
from keras_course.preprocessing.picture_format import PictureFormat

__all__ = [
    "LARGEST_FILE_BYTES",
    "LARGEST_PIXELS",
    "PICTURE_ENDINGS",
    "PICTURE_FORMATS",
    "WEB_FORMATS",
    "PictureFormat",
    "format_of",
    "prepare",
    "read_picture",
]

WEB_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
"""Formats that browsers send, and that a service accepts."""
PICTURE_FORMATS: Final = (*WEB_FORMATS, "GIF", "TIFF", "PPM", "AVIF", "HEIF")
"""Formats that are read from files. Of several pictures in one file, the first is read."""
PICTURE_ENDINGS: Final = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif"),
    *(".jpe", ".jfif", ".mpo", ".apng", ".dib", ".ppm", ".pgm", ".pbm", ".pnm"),
)

# Larger than the pictures of cameras. Larger files are rejected before decoding.
LARGEST_FILE_BYTES: Final = 2**25
LARGEST_PIXELS: Final = 64_000_000
LARGEST_SCANS: Final = 100
"""Each scan of a progressive JPEG visits all pixels; ten scans are usual."""
LARGEST_SCANNED_PIXELS: Final = 1_000_000_000
"""Limit for pixels times scans."""

Source = str | os.PathLike[str] | bytes | np.ndarray | Image.Image
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_INTERPOLATION: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}

_SIGNATURES: Final = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}
_AVIF: Final = {b"avif", b"avis"}
_HEIF: Final = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns a picture upright, by EXIF's number of the orientation."""
_METADATA_OF_JPEG: Final = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})
"""All application segments and comments except those of JFIF and Adobe, which define the colors."""
_PIXELS_OF_PNG: Final = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})

_FLAT: Final = 8  # gray values between the darkest and the brightest pixel; a smaller difference is noise

# MNIST's digits were resized to fit 20×20 pixels, and placed with their center of mass in the middle of 28×28.
_STROKES_SHARE: Final = 20 / 28
_FAINTEST: Final = 24  # least gray values between paper and ink
_INK: Final = 0.3  # share of the darkest ink above which a pixel belongs to a stroke
_CERTAIN: Final = 0.4  # the same share for finding the places of strokes
_SPECK: Final = 0.05  # least share of the largest stroke's ink; smaller spots are dirt
_WINDOW: Final = 25  # of 64: wider than any stroke
_SHARP: Final = 1024  # pixels of the longer side for the form of strokes
_COARSE: Final = 256  # pixels of the longer side for the places of strokes

# A segment of a JPEG begins with 0xFF and its kind; in compressed data 0xFF is followed by 0 or a number of a restart.
_JPEG_MARKER: Final = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]", re.DOTALL)
_JPEG_END: Final = 0xD9
_JPEG_SCAN: Final = 0xDA


def format_of(beginning: bytes) -> str | None:
    """Returns which of ``PICTURE_FORMATS`` the first 64 bytes of a file have, whatever its name; None for any other."""
    for start, kind in _SIGNATURES.items():
        if beginning.startswith(start):
            return kind
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
        return "WEBP"
    if beginning[4:8] == b"ftyp":
        brands = {beginning[place : place + 4] for place in (8, *range(16, min(64, len(beginning)), 4))}
        return "AVIF" if brands & _AVIF else "HEIF" if brands & _HEIF else None
    return "PPM" if re.match(rb"P[1-6][\s#]", beginning) else None


def read_picture(
    source: Source,
    *,
    name: str = "",
    shrink_to: int | None = None,
    largest_pixels: int = LARGEST_PIXELS,
    formats: Collection[str] = PICTURE_FORMATS,
) -> Image.Image:
    """Decodes a picture within limits of size, and turns it upright.

    Args:
        source: A path, the bytes of a file, an array uint8 (height, width) or (height, width, 1, 3 or 4), or a Pillow
            image.
        name: Name of the picture in error messages; by default the path.
        shrink_to: Needed pixels of the shorter side; a large JPEG is decoded at a half, a quarter or an eighth of its
            size if that is enough.
        largest_pixels: Limit for the number of pixels.
        formats: Accepted formats, out of ``PICTURE_FORMATS``.

    Returns:
        The picture in one of Pillow's modes L, LA, RGB and RGBA, eight bits a channel.

    Raises:
        CourseError: It cannot be read, has an unknown format, or is too large.

    Example:
        >>> read_picture(np.zeros((20, 30, 3), "uint8")).size
        (30, 20)
    """
    name = name or (str(source) if isinstance(source, (str, os.PathLike)) else "the picture")
    if isinstance(source, np.ndarray):
        return _from_array(source, name, largest_pixels)
    if isinstance(source, (str, os.PathLike)):
        source = _read_file(Path(source), name)
    if isinstance(source, bytes) and len(source) > LARGEST_FILE_BYTES:
        raise CourseError(f"{name} has {len(source):,} bytes; give a picture of at most {LARGEST_FILE_BYTES:,}")
    if not isinstance(source, (bytes, Image.Image)):
        raise CourseError(f"{name} is a {type(source).__name__}; give a path, the bytes of a file, or an array")
    try:
        with _NO_WARNINGS:
            if isinstance(source, Image.Image):
                _check_size(source, name, largest_pixels)
                source.load()
                return _eight_bits(_upright(source))
            return _decoded(source, name, shrink_to, largest_pixels, formats)
    except CourseError:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, for far more pixels
        raise CourseError(f"{name} has too many pixels; give a picture of at most {largest_pixels:,} pixels") from None
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise CourseError(f"{name} cannot be read as a picture: {reason_of(error)}") from error


def prepare(
    source: Source,
    picture_format: PictureFormat,
    *,
    name: str = "",
    largest_pixels: int = LARGEST_PIXELS,
    formats: Collection[str] = PICTURE_FORMATS,
) -> Pixels:
    """Converts a picture to the input pixels of a model.

    A picture of the right size and number of channels is returned unchanged.

    Args:
        source: A path, the bytes of a file, an array or a Pillow image, see ``read_picture``.
        picture_format: Input format of the model.
        name: Name of the picture in error messages; by default the path.
        largest_pixels: Limit for the number of pixels.
        formats: Accepted formats, out of ``PICTURE_FORMATS``.

    Returns:
        uint8 (height, width, channels).

    Raises:
        CourseError: The picture cannot be read, has an unknown format, or is too large.

    Example:
        >>> wide = np.tile(np.arange(0, 200, 2, dtype="uint8"), (50, 1))
        >>> prepare(wide, PictureFormat(height=2, width=2, channels=1))[0, :, 0].tolist()
        [73, 125]
    """
    # four times as large as needed, so that resizing averages over the errors of fast decoding
    shrink_to = None if picture_format.drawing else 4 * max(picture_format.height, picture_format.width)
    image = read_picture(source, name=name, shrink_to=shrink_to, largest_pixels=largest_pixels, formats=formats)
    size = picture_format.width, picture_format.height
    if picture_format.drawing:
        # reducing the large picture of a camera removes noise
        small = image.reduce(-(-max(image.size) // _SHARP))
        return _as_drawing(_on_contrasting_background(small), size)[:, :, None]
    image = _opaque(image, picture_format.background).convert("L" if picture_format.channels == 1 else "RGB")
    if image.size == size:
        return np.asarray(image, "uint8").reshape(picture_format.shape)
    pixels = np.asarray(_resized(image, size, picture_format), "uint8")
    if picture_format.full_contrast:
        pixels = _with_full_contrast(pixels)
    return pixels.reshape(picture_format.shape)


def _read_file(path: Path, name: str) -> bytes:
    try:
        # opening a pipe would block
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError("it is not a file")
        with path.open("rb") as file:
            return file.read(LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise CourseError(f"there is no picture {name}; give the path of one") from None
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise CourseError(f"{name} cannot be read: {reason_of(error)}") from None


# --- Files of pictures -----------------------------------------------------------------------------------------


def _decoded(
    content: bytes, name: str, shrink_to: int | None, largest_pixels: int, formats: Collection[str]
) -> Image.Image:
    """Decodes a file; if Pillow fails because of its metadata, tries again without them."""
    kind = format_of(content[:64])
    if kind is None or kind not in formats:
        raise CourseError(f"{name} cannot be read as a picture: it is none of {', '.join(formats)}")
    _check_decoder(kind, name)
    try:
        return _opened(content, kind, name, shrink_to, largest_pixels)
    except (CourseError, Image.DecompressionBombError):
        raise
    except Exception:
        pixels_alone, exif = _without_metadata(content, kind)
        if pixels_alone == content:
            raise
        return _upright(_opened(pixels_alone, kind, name, shrink_to, largest_pixels), exif)


def _opened(content: bytes, kind: str, name: str, shrink_to: int | None, largest_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=[kind]) as image:
        _check_size(image, name, largest_pixels)
        _check_scans(content, image, name)
        if shrink_to is not None:
            image.draft(None, (shrink_to, shrink_to))
        image.load()
        return _eight_bits(_upright(image))


def _check_decoder(kind: str, name: str) -> None:
    """Raises an error if Pillow lacks the plug-in or the build option for a format."""
    if kind == "HEIF" and kind not in Image.OPEN:
        try:
            plugin: Any = import_module("pillow_heif")
        except ImportError:
            raise MissingPackageError(
                f"{name}, a HEIC picture,", "pillow-heif", 'pip install "keras-course[heic]"'
            ) from None
        plugin.register_heif_opener()
    elif kind == "AVIF" and not features.check("avif"):
        raise CourseError(f"{name} is an AVIF picture, which this Pillow cannot read; run: pip install -U pillow")


def _upright(image: Image.Image, exif: bytes | None = None) -> Image.Image:
    """Turns a picture upright as its metadata say, or those that were removed from its file; ignores damaged ones."""
    try:
        metadata = image.getexif() if exif is None else Image.Exif()
        if exif is not None:
            metadata.load(exif)
        orientation = metadata.get(ExifTags.Base.Orientation)
    except Exception:  # damaged metadata can make a parser raise nearly anything
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _without_metadata(content: bytes, kind: str) -> tuple[bytes, bytes]:
    """Removes everything from a JPEG or PNG file that its pixels do not need; also returns its EXIF, b"" if none."""
    exif = b""
    if kind == "JPEG":
        parts = [content[:2]]
        for marker, segment in _jpeg_segments(content):
            if marker in _METADATA_OF_JPEG:
                exif = exif or (segment[4:] if segment[4:].startswith(b"Exif\0\0") else b"")
            else:
                parts.append(segment)
        return b"".join(parts), exif
    if kind == "PNG":
        parts = [content[:8]]
        for name, chunk in _png_chunks(content):
            if name in _PIXELS_OF_PNG:
                parts.append(chunk)
            elif name == b"eXIf":
                exif = chunk[8:-4]
        return b"".join(parts), exif
    return content, exif


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the segments of a JPEG file with their markers; everything from the first scan on is one segment."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF and content[place + 1] != _JPEG_SCAN:
        length = 1 if content[place + 1] == 0xFF else 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        yield content[place + 1], content[place : place + length]
        place += length
    yield _JPEG_SCAN, content[place:]


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the chunks of a PNG file with their names."""
    place = 8
    while place + 12 <= len(content):
        length = 12 + int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], content[place : place + length]
        place += length


def _from_array(array: np.ndarray, name: str, largest_pixels: int) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise CourseError(
            f"{name} is an array {array.dtype} {array.shape}; give uint8 (height, width) or (height, width, 1, 3 or 4)"
        )
    if not array.size:
        raise CourseError(f"{name} is an array {array.shape}, which has no pixels")
    image = Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    _check_size(image, name, largest_pixels)
    return image


def _check_size(image: Image.Image, name: str, largest: int) -> None:
    width, height = image.size
    if not width * height:
        raise CourseError(f"{name} has {width} × {height} pixels; give a picture that has pixels")
    if width * height > largest:
        raise CourseError(f"{name} has {width:,} × {height:,} pixels; give a picture of at most {largest:,} pixels")


def _check_scans(content: bytes, image: Image.Image, name: str) -> None:
    """Rejects a JPEG of so many scans that a small file takes minutes to decode."""
    most = min(LARGEST_SCANS, LARGEST_SCANNED_PIXELS // (image.width * image.height))
    # a fast test that is nearly always enough, since compressed data do not contain these two bytes
    is_jpeg = content.startswith(b"\xff\xd8")
    if is_jpeg and content.count(b"\xff\xda") > most and _count_scans(content, most) > most:
        pixels = f"{image.width:,} × {image.height:,} pixels"
        raise CourseError(f"{name} is a JPEG of {pixels} in more than {most} scans; save it again, not as progressive")


def _count_scans(jpeg: bytes, most: int) -> int:
    """Counts the scans of a JPEG's first picture, up to ``most`` plus 1."""
    count, place = 0, 2
    while count <= most and (marker := _JPEG_MARKER.search(jpeg, place)):
        code, place = marker[0][1], marker.end()
        if code == _JPEG_END:
            break
        count += code == _JPEG_SCAN
        place += int.from_bytes(jpeg[place : place + 2], "big")
    return count


def _eight_bits(image: Image.Image) -> Image.Image:
    """Converts any mode of Pillow to L, LA, RGB or RGBA."""
    if image.mode in ("LA", "RGBA"):
        return image
    if image.mode in ("L", "RGB"):  # one color of a PNG can be transparent
        return image.convert(image.mode + "A") if "transparency" in image.info else image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):  # Pillow would clip values above 255
        values = np.nan_to_num(np.asarray(image, "float32"))
        top = 65_535 if image.mode.startswith("I;16") or values.max() > 255 else 255
        return Image.fromarray(np.clip(np.rint(values * np.float32(255 / top)), 0, 255).astype("uint8"))
    if image.mode == "La":
        return image.convert("LA")
    if image.mode in ("P", "PA", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L" if image.mode == "1" else "RGB")


class _NoWarnings:
    """``warnings.catch_warnings`` for overlapping threads: the last one restores the state that the first one found."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._outer = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._outer = warnings.catch_warnings()
                self._outer.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._outer.__exit__(None, None, None)


# Pillow warns of pictures above its own limit, and of odd metadata.
_NO_WARNINGS: Final = _NoWarnings()


def _opaque(image: Image.Image, background: int) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    image = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(ground, image).convert("RGB")


def _resized(image: Image.Image, size: tuple[int, int], picture_format: PictureFormat) -> Image.Image:
    method = _INTERPOLATION[picture_format.interpolation]
    if picture_format.resize == "crop":
        return ImageOps.fit(image, size, method, bleed=(1 - picture_format.middle) / 2)
    if picture_format.resize == "pad":
        color: Any = picture_format.background
        return ImageOps.pad(image, size, method, color=color if image.mode == "L" else (color,) * 3)
    if picture_format.resize == "extend":
        factor = min(size[0] / image.width, size[1] / image.height)
        width, height = (max(1, round(side * factor)) for side in image.size)
        return _extended(image.resize((width, height), method), size)
    return image.resize(size, method)


def _extended(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Repeats the outermost pixels, equally on both sides."""
    missing = [large - small for large, small in zip(size[::-1], image.size[::-1], strict=True)]
    beside = [(more // 2, more - more // 2) for more in missing]
    pixels = np.asarray(image)
    return Image.fromarray(np.pad(pixels, beside + [(0, 0)] * (pixels.ndim - 2), mode="edge"))


def _with_full_contrast(pixels: Pixels) -> Pixels:
    low, high = int(pixels.min()), int(pixels.max())
    if high - low < _FLAT:  # it would amplify noise
        return pixels
    return np.rint((pixels - np.float64(low)) * (255 / (high - low))).astype("uint8")


# --- Drawings --------------------------------------------------------------------------------------------------


def _on_contrasting_background(image: Image.Image) -> Image.Image:
    """Puts white behind dark strokes and black behind bright ones of a transparent drawing."""
    if image.mode in ("L", "RGB"):
        return image.convert("L")
    rgba = image.convert("RGBA")
    alpha = np.asarray(rgba.getchannel("A"), "float32")
    gray = np.asarray(rgba.convert("RGB").convert("L"), "float32")
    brightness = float((gray * alpha).sum() / max(alpha.sum(), 1.0))
    return _opaque(rgba, 0 if brightness > 127 else 255).convert("L")


def _as_drawing(image: Image.Image, size: tuple[int, int]) -> Pixels:
    """Converts strokes to the form of MNIST: bright on black, one size, the center of mass in the middle.

    Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits".
    """
    if image.size == size:
        gray = np.asarray(image, "uint8")
        border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
        return 255 - gray if np.median(border) > 127 else gray
    width, height = size
    canvas = np.zeros((height, width), "uint8")
    strokes = _strokes(image)
    rows, columns = (np.flatnonzero((strokes > _INK).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return canvas
    ink = strokes[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    factor = _STROKES_SHARE * min(width / ink.shape[1], height / ink.shape[0])
    new_size = [max(1, round(side * factor)) for side in (ink.shape[1], ink.shape[0])]
    shrunk = np.asarray(Image.fromarray(ink).resize((new_size[0], new_size[1]), Image.Resampling.BILINEAR))
    shrunk = np.clip(shrunk / shrunk.max(), 0, 1)  # resizing makes thin lines pale
    above, left = _centered_start(shrunk.sum(axis=1), height), _centered_start(shrunk.sum(axis=0), width)
    canvas[above : above + shrunk.shape[0], left : left + shrunk.shape[1]] = np.rint(255 * shrunk)
    return canvas


def _strokes(image: Image.Image) -> Floats:
    """Separates strokes from the background, which may be lit unevenly: 0 is background, 1 is ink."""
    # the places of ink come from a small picture, in which noise and specks are weak; its form from the large one
    small = image.resize(_fitted(image.size, _COARSE), Image.Resampling.BOX) if max(image.size) > _COARSE else image
    ground, sign = _estimate_background(small)
    coarse = sign * (_smoothed(small) - np.asarray(ground.resize(small.size, Image.Resampling.BILINEAR)))
    darkest = float(np.quantile(coarse, 0.999))
    if darkest < _FAINTEST:
        return np.zeros((1, 1), "float32")
    ink = _large_parts(coarse, darkest * _CERTAIN)
    darkest = float(np.quantile(coarse[ink], 0.75))
    around = Image.fromarray(_in_windows(ink, 5, np.max).astype("uint8"))
    strokes = sign * (_smoothed(image) - np.asarray(ground.resize(image.size, Image.Resampling.BILINEAR))) / darkest
    is_stroke = (strokes > _INK / 2) & np.asarray(around.resize(image.size, Image.Resampling.NEAREST), "bool")
    return np.where(is_stroke, np.minimum(strokes, 1), np.float32(0))


def _estimate_background(image: Image.Image) -> tuple[Image.Image, int]:
    """Estimates the background as a small gray picture, and returns whether ink is brighter (1) or darker (-1)."""
    gray = np.asarray(image.resize(_fitted(image.size, 64), Image.Resampling.BOX), "float64")
    rows, columns = np.indices(gray.shape) / max(gray.shape)
    plane = np.stack([np.ones_like(rows), rows, columns], -1).reshape(-1, 3)
    share = np.ones(gray.shape)
    share[[0, -1]] = share[:, [0, -1]] = 3  # the edges rarely have ink
    # a plane with the least sum of absolute residuals, which outliers do not affect
    weight, away = share.ravel(), np.zeros(gray.size)
    for _ in range(10):
        level = plane @ np.linalg.lstsq(plane.T @ (plane * weight[:, None]), plane.T @ (weight * gray.ravel()))[0]
        away = gray.ravel() - level
        weight = share.ravel() / np.maximum(np.abs(away), 1)
    sign = 1 if (away**3).sum() > 0 else -1
    # uneven light: what remains after removing everything that is narrower than the window
    uneven = (sign * away).reshape(gray.shape).astype("float32")
    rest = Image.fromarray(_in_windows(_in_windows(uneven, _WINDOW, np.min), _WINDOW, np.max))
    rest = rest.resize(_fitted(rest.size, 16), Image.Resampling.BOX).resize(rest.size, Image.Resampling.BILINEAR)
    return Image.fromarray(level.reshape(gray.shape).astype("float32") + sign * np.asarray(rest)), sign


def _smoothed(image: Image.Image) -> Floats:
    """Blurs a picture in proportion to its noise."""
    gray = np.asarray(image, "float32")
    noise = float(np.median(np.abs(np.diff(gray[::4], axis=1)))) if image.width > 1 else 0.0
    if noise < 2:
        return gray
    return np.asarray(image.filter(ImageFilter.GaussianBlur(min(noise / 6, 2.5))), "float32")


def _large_parts(values: Floats, least: float) -> npt.NDArray[np.bool_]:
    """Finds connected pixels above a value, and removes specks."""
    height, width = values.shape
    inside = np.pad(values > least, 1).ravel()
    label = np.where(inside, np.arange(inside.size), 0)
    steps = [down * (width + 2) + right for down in (-1, 0, 1) for right in (-1, 0, 1)]
    places = np.flatnonzero(inside)
    while True:  # each pixel takes the largest label of its neighbors, and then the label of the pixel it names
        largest = np.max([label[places + step] for step in steps], axis=0)
        if (largest == label[places]).all():
            break
        label[places] = largest
        label[places] = label[label[places]]
    weights = np.bincount(label[places], np.pad(values, 1).ravel()[places], minlength=1)
    is_large = weights >= _SPECK * weights.max()
    return (inside & is_large[label]).reshape(height + 2, width + 2)[1:-1, 1:-1]


def _in_windows(values: np.ndarray, side: int, pick: Callable[..., np.ndarray]) -> np.ndarray:
    """Returns for each pixel the least or the greatest value of a square around it."""
    for axis in (0, 1):
        beyond = [(side // 2, side // 2) if number == axis else (0, 0) for number in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, beyond, mode="edge"), side, axis)
        values = pick(windows, axis=-1)
    return values


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Scales a width and a height down so that the longer one is at most ``longest``."""
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _centered_start(weight: npt.NDArray[Any], length: int) -> int:
    """Returns the start that puts the center of mass into the middle without cutting off anything."""
    center = float((weight * (np.arange(len(weight)) + 0.5)).sum() / weight.sum())
    # in MNIST it is the middle of pixel 14, so 14.5 from the edge
    return int(np.clip(round((length + 1) / 2 - center), 0, length - len(weight)))
